/**
 * Proves the tables of src/fuse/abi.ts and src/fuse/init.ts against the C compiler and the system's linux/fuse.h, and what
 * the put functions write against bytes spelled out by hand. What the header is too old for is checked where it is new
 * enough; until then the sessions of test/fuse/session.ts are the proof that a running kernel agrees.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import * as abi from '../../src/fuse/abi.ts';
import { InitFlag } from '../../src/fuse/init.ts';
import { hexLines } from '../fixtures/wire.ts';

const SCRIPT = fileURLToPath(new URL('../../../scripts/abi-offsets.sh', import.meta.url));
const noCompiler = spawnSync(process.env.CC ?? 'cc', ['--version']).status === 0 ? false : 'needs a C compiler';

/** Asks the compiler for the values of expressions. */
function ask(header: string, expressions: string[]): number[] {
  const { status, stdout, stderr } = spawnSync(SCRIPT, [header], {
    input: `${expressions.join('\n')}\n`,
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(stderr);
  return stdout.trim().split('\n').map(Number);
}

type Layout = Readonly<Record<string, number>>;

const structs: [name: string, minor: number, layout: Layout][] = [
  ['fuse_in_header', 38, abi.InHeader],
  ['fuse_out_header', 0, abi.OutHeader],
  ['fuse_init_in', 36, abi.InitIn],
  ['fuse_init_out', 43, abi.InitOut],
  ['fuse_attr', 32, abi.FuseAttr],
  ['fuse_entry_out', 0, abi.EntryOut],
  ['fuse_attr_out', 0, abi.AttrOut],
  ['fuse_getattr_in', 0, abi.GetattrIn],
  ['fuse_statx_in', 39, abi.StatxIn],
  ['fuse_statx', 39, abi.Statx],
  ['fuse_statx_out', 39, abi.StatxOut],
  ['fuse_open_in', 32, abi.OpenIn],
  ['fuse_open_out', 40, abi.OpenOut],
  ['fuse_read_in', 0, abi.ReadIn],
  ['fuse_release_in', 0, abi.ReleaseIn],
  ['fuse_getxattr_in', 0, abi.GetxattrIn],
  ['fuse_getxattr_out', 0, abi.GetxattrOut],
  ['fuse_access_in', 0, abi.AccessIn],
  ['fuse_lseek_in', 24, abi.LseekIn],
  ['fuse_lseek_out', 24, abi.LseekOut],
  ['fuse_forget_in', 0, abi.ForgetIn],
  ['fuse_batch_forget_in', 0, abi.BatchForgetIn],
  ['fuse_forget_one', 0, abi.ForgetOne],
  ['fuse_interrupt_in', 0, abi.InterruptIn],
  ['fuse_kstatfs', 0, abi.Kstatfs],
  ['fuse_dirent', 0, abi.Dirent],
  ['fuse_direntplus', 0, abi.DirentPlus],
];
/** Fields that a header of a lower minor version lacks, where it has the rest of the structure. */
const younger: Record<string, number> = {
  'fuse_init_out.unused': 43,
  'fuse_init_out.max_stack_depth': 40,
  'fuse_init_out.request_timeout': 43,
  'fuse_open_out.backing_id': 40,
};
const relaxed: Record<string, number> = { fuse_init_out: 36, fuse_open_out: 0 };

const offsetOf = (struct: string, field: string): string =>
  field === 'SIZE' ? `sizeof(struct ${struct})` : `offsetof(struct ${struct}, ${field})`;

t.test('layouts', { skip: noCompiler }, t => {
  const [minor] = ask('linux/fuse.h', ['FUSE_KERNEL_MINOR_VERSION']) as [number];
  t.comment(`linux/fuse.h speaks 7.${minor}`);
  const questions: [expression: string, ours: number][] = [];
  for (const [struct, since, layout] of structs) {
    if (minor < (relaxed[struct] ?? since)) t.comment(`not checked: struct ${struct}, of 7.${since}`);
    else
      for (const [field, at] of Object.entries(layout))
        if (minor >= (younger[`${struct}.${field}`] ?? 0)) questions.push([offsetOf(struct, field), at]);
  }
  const values = ask(
    'linux/fuse.h',
    questions.map(([expression]) => expression),
  );
  for (const [i, [expression, ours]] of questions.entries()) t.equal(ours, values[i], expression);
  t.ok(questions.length > 100, 'the header knows most of the tables');
  t.end();
});

t.test('fuse_statx is laid out as struct statx', { skip: noCompiler }, t => {
  for (const kind of ['atime', 'btime', 'ctime', 'mtime'] as const) {
    const [value] = ask('linux/stat.h', [`offsetof(struct statx, stx_${kind})`]);
    t.equal(abi.Statx[kind], value, kind);
  }
  const names = ['mask', 'blksize', 'attributes', 'nlink', 'uid', 'gid', 'mode', 'ino', 'size', 'blocks'] as const;
  const more = ['attributes_mask', 'rdev_major', 'rdev_minor', 'dev_major', 'dev_minor'] as const;
  const fields = [...names, ...more];
  const values = ask('linux/stat.h', [
    ...fields.map(name => `offsetof(struct statx, stx_${name})`),
    'sizeof(struct statx)',
  ]);
  for (const [i, name] of fields.entries()) t.equal(abi.Statx[name], values[i], name);
  t.equal(abi.Statx.SIZE, values.at(-1), 'size');
  t.end();
});

t.test('opcodes and flags', { skip: noCompiler }, t => {
  const [minor] = ask('linux/fuse.h', ['FUSE_KERNEL_MINOR_VERSION']) as [number];
  const since: Record<string, number> = { STATX: 39, COPY_FILE_RANGE_64: 45, PASSTHROUGH: 40 };
  const flagsSince = (bit: number): number => (bit === 34 || bit > 35 ? 40 + Math.max(0, bit - 39) : 0);
  const questions: [expression: string, ours: number][] = [
    ['FUSE_KERNEL_VERSION', abi.MAJOR],
    ['FUSE_MIN_READ_BUFFER', abi.MIN_READ_BUFFER],
  ];
  for (const [name, opcode] of Object.entries(abi.Opcode))
    if (minor >= (since[name] ?? 0)) questions.push([`FUSE_${name}`, opcode]);
  for (const [name, bit] of Object.entries(abi.Fopen))
    if (minor >= (since[name] ?? 0)) questions.push([`FOPEN_${name}`, bit]);
  for (const [name, bit] of Object.entries(InitFlag))
    if (minor >= flagsSince(bit)) questions.push([`__builtin_ctzll(FUSE_${name})`, bit]);
  const values = ask(
    'linux/fuse.h',
    questions.map(([expression]) => expression),
  );
  for (const [i, [expression, ours]] of questions.entries()) t.equal(ours, values[i], expression);
  t.equal(abi.opcodeName(1), 'LOOKUP', 'an opcode has a name');
  t.equal(abi.opcodeName(99), 'opcode 99', 'an unknown opcode has a number');
  t.end();
});

const attr = {
  ino: 2 ** 40 + 5,
  mode: 0o100644,
  nlink: 2,
  uid: 1000,
  gid: 100,
  rdev: 0x00812345,
  size: 2 ** 33 + 1,
  blocks: 8,
  blksize: 4096,
  atime: -1,
  atimensec: 999_999_999,
  mtime: 2 ** 32,
  mtimensec: 1,
  ctime: -(2 ** 33),
  ctimensec: 0,
};
const ATTR = `
  0500000000010000  ino
  0100000002000000  size
  0800000000000000  blocks
  ffffffffffffffff  atime
  0000000001000000  mtime
  00000000feffffff  ctime
  ffc99a3b01000000  atimensec, mtimensec
  00000000a4810000  ctimensec, mode
  02000000e8030000  nlink, uid
  6400000045238100  gid, rdev
  0010000000000000  blksize, flags`;
const FOREVER = 'ffffffffffffff7f';

for (const [rule, put, want] of [
  ['attributes, times before 1970 included', (v: DataView) => abi.putAttr(v, 0, attr), ATTR],
  [
    'an entry with timeouts of a day and of a quarter of a second',
    (v: DataView) => abi.putEntryOut(v, 0, 35, 1, 86400, 0.25, attr),
    `2300000000000000  nodeid
     0100000000000000  generation
     8051010000000000  entry_valid
     0000000000000000  attr_valid
     0000000080b2e60e  entry_valid_nsec, attr_valid_nsec
     ${ATTR}`,
  ],
  [
    'a missing name, for ever',
    (v: DataView) => abi.putNegativeEntryOut(v, 0, Number.POSITIVE_INFINITY),
    `0000000000000000  nodeid
     0000000000000000  generation
     ${FOREVER}  entry_valid
     ${'0000000000000000\n'.repeat(13)}`,
  ],
  [
    'attributes for ever',
    (v: DataView) => abi.putAttrOut(v, 0, Number.POSITIVE_INFINITY, attr),
    `${FOREVER}  attr_valid
     0000000000000000  attr_valid_nsec, dummy
     ${ATTR}`,
  ],
  [
    'statx: all of stat(2), no birth time',
    (v: DataView) => abi.putStatxOut(v, 0, 1.5, attr),
    `0100000000000000  attr_valid
     0065cd1d00000000  attr_valid_nsec, flags
     0000000000000000  spare
     0000000000000000
     ff07000000100000  mask, blksize
     0000000000000000  attributes
     02000000e8030000  nlink, uid
     64000000a4810000  gid, mode
     0500000000010000  ino
     0100000002000000  size
     0800000000000000  blocks
     0000000000000000  attributes_mask
     ffffffffffffffff  atime
     ffc99a3b00000000
     0000000000000000  btime
     0000000000000000
     00000000feffffff  ctime
     0000000000000000
     0000000001000000  mtime
     0100000000000000
     2301000045080000  rdev: major 0x123, minor 0x845
     ${'0000000000000000\n'.repeat(15)}`,
  ],
  [
    'an open file with a backing id',
    (v: DataView) => abi.putOpenOut(v, 0, 2 ** 32 + 7, abi.Fopen.PASSTHROUGH | abi.Fopen.KEEP_CACHE, 9),
    `0700000001000000  fh
     8200000009000000  open_flags, backing_id`,
  ],
  [
    'an open file without one',
    (v: DataView) => abi.putOpenOut(v, 0, 7, 0),
    `0700000000000000  fh
     0000000000000000  open_flags, backing_id`,
  ],
  [
    'numbers of statfs',
    (v: DataView) =>
      abi.putStatfsOut(v, 0, {
        blocks: 10,
        bfree: 9,
        bavail: 8,
        files: 7,
        ffree: 6,
        bsize: 4096,
        namelen: 255,
        frsize: 512,
      }),
    `0a00000000000000  blocks
     0900000000000000  bfree
     0800000000000000  bavail
     0700000000000000  files
     0600000000000000  ffree
     00100000ff000000  bsize, namelen
     0002000000000000  frsize, padding
     ${'0000000000000000\n'.repeat(3)}`,
  ],
  ['an offset', (v: DataView) => abi.putLseekOut(v, 0, 4096), '0010000000000000  offset'],
] as const) {
  const bytes = Buffer.alloc(512, 0xee);
  const written = put(new DataView(bytes.buffer, bytes.byteOffset, bytes.length));
  t.equal(bytes.toString('hex', 0, written), hexLines(want), rule);
  t.ok(
    bytes.subarray(written).every(byte => byte === 0xee),
    `${rule}: nothing behind it`,
  );
}
