/** Proves src/fuse/trace.ts: what a message looks like to a person. */
import t from 'tap';
import { Reply } from '../../src/fuse/dispatch.ts';
import { traceTo } from '../../src/fuse/trace.ts';
import { OutHeader } from '../../src/fuse/wire/abi.ts';
import { wire } from '../fixtures/mounts/wire.ts';

const lines: string[] = [];
const tracer = traceTo(line => lines.push(line));
const viewOf = (hex: string): DataView => new DataView(wire(hex).buffer);

const from = (opcode: string, body = ''): string => `
  00000000${opcode}000000  len, opcode
  2a00000000000000  unique 42
  0300000000000000  nodeid 3
  e803000064000000  uid, gid
  1100000000000000  pid
  ${body}`;

for (const [rule, hex, line] of [
  ['a name', from('01', '68656c6c6f00'), '→ 42 LOOKUP node 3 "hello"'],
  ['bytes that do not print', from('01', '610ae900'), '→ 42 LOOKUP node 3 "a\\x0a\\xe9"'],
  ['no body', from('05'), '→ 42 READLINK node 3'],
  ['a body that has no table', from('09', '0000000000000000'), '→ 42 MKDIR node 3 8 bytes'],
  ['an opcode that has no name', from('63'), '→ 42 opcode 99 node 3'],
  ['fields', from('0f', '0700000000000000 0010000000000000 00200000'), '→ 42 READ node 3 fh 7 offset 4096 size 8192'],
  ['a body that was cut', from('0f', '0700000000000000 001000000000'), '→ 42 READ node 3 fh 7'],
  ['flags', from('0e', '0080000000000000'), '→ 42 OPEN node 3 flags 0x8000'],
  ['fields, then a name', from('16', '0001000000000000 757365722e6100'), '→ 42 GETXATTR node 3 size 256 "user.a"'],
  [
    'INIT',
    from('1a', '070000002d000000 0000020001200040 2000000000000000'),
    '→ 42 INIT node 3 major 7 minor 45 max_readahead 131072 flags ASYNC_READ|DO_READDIRPLUS|INIT_EXT|PASSTHROUGH',
  ],
  [
    'INIT without flags2',
    from('1a', '0700000017000000 0000020001200000'),
    '→ 42 INIT node 3 major 7 minor 23 max_readahead 131072',
  ],
] as const) {
  lines.length = 0;
  const view = viewOf(hex);
  tracer.request(view, view.byteLength);
  t.strictSame(lines, [line], rule);
}

const reply = (error: string, body = ''): string => `
  00000000${error}  len, error
  2a00000000000000  unique 42
  ${body}`;
const OK = '00000000';
const zeros = (count: number): string => '0000000000000000\n'.repeat(count);

for (const [rule, opcode, hex, line] of [
  ['an error', 1, reply('feffffff'), '← 42 LOOKUP ENOENT'],
  ['no body', 18, reply(OK), '← 42 RELEASE 0 bytes'],
  ['data', 15, reply(OK, '68656c6c6f'), '← 42 READ 5 bytes'],
  ['a target', 5, reply(OK, '7573722f62696e'), '← 42 READLINK "usr/bin"'],
  [
    'an entry',
    1,
    reply(
      OK,
      `2300000000000000  nodeid
       0000000000000000  generation
       0a00000000000000  entry_valid
       ffffffffffffff7f  attr_valid
       0000000000000000  entry_valid_nsec, attr_valid_nsec
       0310000000000000  ino
       0010000000000000  size
       ${zeros(5)}
       00000000ed410000  ctimensec, mode
       ${zeros(3)}`,
    ),
    '← 42 LOOKUP nodeid 35 entry_valid 10 attr_valid forever ino 4099 mode 040755 size 4096',
  ],
  [
    'a missing name',
    1,
    reply(OK, `${zeros(2)}ffffffffffffff7f\n${zeros(13)}`),
    '← 42 LOOKUP nodeid 0 entry_valid forever',
  ],
  [
    'what an open file may do',
    14,
    reply(OK, '0700000000000000 8a00000009000000'),
    '← 42 OPEN fh 7 open_flags KEEP_CACHE|CACHE_DIR|PASSTHROUGH backing_id 9',
  ],
  ['nothing special', 14, reply(OK, '0700000000000000 0000000000000000'), '← 42 OPEN fh 7 open_flags 0 backing_id 0'],
  [
    'flags without a name',
    14,
    reply(OK, '0700000000000000 0100008000000000'),
    '← 42 OPEN fh 7 open_flags DIRECT_IO|0x80000000 backing_id 0',
  ],
  [
    'INIT',
    26,
    reply(OK, `070000002d000000 0000020000004000 4000300000100000 0100000000010000 0000000000000000 ${zeros(3)}`),
    '← 42 INIT major 7 minor 45 max_readahead 131072 max_pages 256 max_stack_depth 0 flags MAX_PAGES',
  ],
] as const) {
  lines.length = 0;
  const bytes = wire(hex);
  tracer.reply(new Reply(bytes.subarray(0, OutHeader.SIZE), bytes.subarray(OutHeader.SIZE)), bytes.length, opcode);
  t.strictSame(lines, [line], rule);
}
