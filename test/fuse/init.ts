/** Proves src/fuse/init.ts: INIT as kernels send it, and the replies to it. */
import t from 'tap';
import type { Wanted } from '../../src/fuse/init.ts';
import { negotiate } from '../../src/fuse/init.ts';
import { InitOut } from '../../src/fuse/wire/abi.ts';
import { EPROTO } from '../../src/sys/errno.ts';
import { hexLines, wire } from '../fixtures/mounts/wire.ts';

const plain: Wanted = { passthroughDepth: 0, posixAcl: false };
const everything: Wanted = { passthroughDepth: 2, posixAcl: true };

/** INIT of Linux 6.18 as it came over /dev/fuse. */
const LINUX_6_18 = `
  070000002d000000  major 7, minor 45
  00000200fbffff73  max_readahead 128 KiB, flags
  fd05000000000000  flags2
  ${'0000000000000000\n'.repeat(5)}`;
/** As before 7.36, without flags2. */
const WITHOUT_FLAGS2 = `
  070000001f000000  major 7, minor 31
  00000200fbffff0f  max_readahead, flags`;
const NOTHING_OFFERED = `
  0700000017000000  major 7, minor 23
  0010000000000000  max_readahead 4 KiB, flags`;
const REST = '0000000000000000\n'.repeat(3);

for (const [rule, request, wanted, reply, granted] of [
  [
    'what Linux 6.18 offers',
    LINUX_6_18,
    plain,
    `070000002d000000
     0000020001a0e641  max_readahead, flags
     4000300000100000  max_background 64, congestion_threshold 48, max_write
     0100000000010000  time_gran, max_pages 256, map_alignment
     5000000000000000  flags2: DIRECT_IO_ALLOW_MMAP, NO_EXPORT_SUPPORT; max_stack_depth
     ${REST}`,
    { minor: 45, passthrough: false, acl: false },
  ],
  [
    'the same, with passthrough and ACLs',
    LINUX_6_18,
    everything,
    `070000002d000000
     0000020001a0f641  max_readahead, flags
     4000300000100000  max_background, congestion_threshold, max_write
     0100000000010000  time_gran, max_pages, map_alignment
     7000000002000000  flags2, max_stack_depth 2
     ${REST}`,
    { minor: 45, passthrough: true, acl: true },
  ],
  [
    'a kernel without flags2 is not asked for passthrough',
    WITHOUT_FLAGS2,
    everything,
    `070000001f000000
     0000020001a0f601
     4000300000100000
     0100000000010000
     0000000000000000
     ${REST}`,
    { minor: 31, passthrough: false, acl: true },
  ],
  [
    'a kernel that offers nothing gets nothing',
    NOTHING_OFFERED,
    everything,
    `0700000017000000
     0010000000000000
     4000300000100000
     0100000000000000
     0000000000000000
     ${REST}`,
    { minor: 23, passthrough: false, acl: false },
  ],
  [
    'a newer minor version is answered with ours',
    NOTHING_OFFERED.replace('17000000', 'e7030000'),
    plain,
    `070000002d000000
     0010000000000000
     4000300000100000
     0100000000000000
     0000000000000000
     ${REST}`,
    { minor: 45, passthrough: false, acl: false },
  ],
  [
    'a newer major version is answered with ours, and INIT comes again',
    NOTHING_OFFERED.replace('0700000017000000', '0800000000000000'),
    plain,
    `070000002d000000
     ${'0000000000000000\n'.repeat(7)}`,
    undefined,
  ],
] as const) {
  const out = Buffer.alloc(InitOut.SIZE + 8, 0xee);
  const connection = negotiate(new DataView(wire(request).buffer), new DataView(out.buffer, out.byteOffset), wanted);
  t.equal(out.toString('hex', 0, InitOut.SIZE), hexLines(reply), rule);
  const seen = connection && {
    minor: connection.minor,
    passthrough: connection.flags.has('PASSTHROUGH'),
    acl: connection.flags.has('POSIX_ACL'),
  };
  t.strictSame(seen, granted, `${rule}: what is remembered`);
}

for (const [rule, changes, want] of [
  ['of a tree that may change, attributes end what the kernel keeps', true, '0000020001b0e641'],
  ['of any other nothing does', false, '0000020001a0e641'],
] as const) {
  const out = Buffer.alloc(InitOut.SIZE);
  const request = new DataView(wire(LINUX_6_18).buffer);
  negotiate(request, new DataView(out.buffer, out.byteOffset), { ...plain, changes });
  t.equal(out.toString('hex', 8, 16), want, rule);
}

{
  const out = Buffer.alloc(InitOut.SIZE);
  const request = new DataView(wire(LINUX_6_18).buffer);
  negotiate(request, new DataView(out.buffer, out.byteOffset), { ...plain, handles: true });
  t.equal(out.toString('hex', 12, 16), '11a0e641', 'handles that last: EXPORT_SUPPORT');
  t.equal(out.toString('hex', 32, 36), '10000000', 'and not NO_EXPORT_SUPPORT');
}

for (const [rule, request, says] of [
  ['major 6', '0600000001000000 0000000000000000', 'the kernel speaks FUSE 6.1, which is older than 7.23'],
  ['minor 22', '0700000016000000 0000000000000000', 'the kernel speaks FUSE 7.22, which is older than 7.23'],
] as const) {
  const out = new DataView(new ArrayBuffer(InitOut.SIZE));
  const body = new DataView(wire(request).buffer);
  t.throws(() => negotiate(body, out, plain), { errno: EPROTO, message: says }, `${rule} is refused`);
}
