/**
 * Proves the tables of src/fuse/wire and src/fuse/init.ts against the C compiler and the system's linux/fuse.h. What the
 * header is too old for is checked where it is new enough; until then the sessions of test/fuse/session.ts are the proof that a running kernel agrees.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { InitFlag } from '../../src/fuse/init.ts';
import * as abi from '../../src/fuse/wire/abi.ts';
import * as changes from '../../src/fuse/wire/abi-changes.ts';
import { Opcode, opcodeName } from '../../src/fuse/wire/opcode.ts';
import { Statx } from '../../src/sys/statx.ts';

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

/** All but a field that only the kernel's own structure has; test/sys/statx.ts compares the table with that one. */
const { mnt_id, ...fuseStatx } = Statx;

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
  ['fuse_statx', 39, fuseStatx],
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
  ['fuse_ioctl_in', 0, abi.IoctlIn],
  ['fuse_ioctl_out', 0, abi.IoctlOut],
  ['fuse_forget_in', 0, abi.ForgetIn],
  ['fuse_batch_forget_in', 0, abi.BatchForgetIn],
  ['fuse_forget_one', 0, abi.ForgetOne],
  ['fuse_interrupt_in', 0, abi.InterruptIn],
  ['fuse_kstatfs', 0, abi.Kstatfs],
  ['fuse_dirent', 0, abi.Dirent],
  ['fuse_direntplus', 0, abi.DirentPlus],
  ['fuse_notify_inval_inode_out', 0, abi.NotifyInvalInodeOut],
  ['fuse_setattr_in', 0, changes.SetattrIn],
  ['fuse_mknod_in', 0, changes.MknodIn],
  ['fuse_mkdir_in', 0, changes.MkdirIn],
  ['fuse_create_in', 32, changes.CreateIn],
  ['fuse_rename_in', 0, changes.RenameIn],
  ['fuse_rename2_in', 23, changes.Rename2In],
  ['fuse_link_in', 0, changes.LinkIn],
  ['fuse_write_in', 0, changes.WriteIn],
  ['fuse_write_out', 0, changes.WriteOut],
  ['fuse_setxattr_in', 33, changes.SetxattrIn],
  ['fuse_fsync_in', 0, changes.FsyncIn],
  ['fuse_fallocate_in', 0, changes.FallocateIn],
  ['fuse_copy_file_range_in', 28, changes.CopyFileRangeIn],
  ['fuse_copy_file_range_out', 45, changes.CopyFileRangeOut],
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

/** What SETXATTR has without SETXATTR_EXT: the structure up to this field. */
const SHORT_SETXATTR = changes.SetxattrIn.setxattr_flags;

t.test('opcodes and flags', { skip: noCompiler }, t => {
  const [minor] = ask('linux/fuse.h', ['FUSE_KERNEL_MINOR_VERSION']) as [number];
  const since: Record<string, number> = { STATX: 39, COPY_FILE_RANGE_64: 45, PASSTHROUGH: 40, RESEND: 40 };
  const flagsSince = (bit: number): number => (bit === 34 || bit > 35 ? 40 + Math.max(0, bit - 39) : 0);
  const questions: [expression: string, ours: number][] = [
    ['FUSE_KERNEL_VERSION', abi.MAJOR],
    ['FUSE_MIN_READ_BUFFER', abi.MIN_READ_BUFFER],
  ];
  for (const [name, opcode] of Object.entries(Opcode))
    if (minor >= (since[name] ?? 0)) questions.push([`FUSE_${name}`, opcode]);
  for (const [name, bit] of Object.entries(abi.Fopen))
    if (minor >= (since[name] ?? 0)) questions.push([`FOPEN_${name}`, bit]);
  for (const [name, bit] of Object.entries(changes.SetattrValid)) questions.push([`FATTR_${name}`, bit]);
  for (const [name, bit] of Object.entries(changes.WriteFlag)) questions.push([`FUSE_WRITE_${name}`, bit]);
  for (const [name, code] of Object.entries(abi.Notify))
    if (minor >= (since[name] ?? 0)) questions.push([`FUSE_NOTIFY_${name}`, code]);
  questions.push(
    ['FUSE_OPEN_KILL_SUIDGID', changes.OPEN_KILL_SUIDGID],
    ['FUSE_COMPAT_SETXATTR_IN_SIZE', SHORT_SETXATTR],
  );
  for (const [name, bit] of Object.entries(InitFlag))
    if (minor >= flagsSince(bit)) questions.push([`__builtin_ctzll(FUSE_${name})`, bit]);
  const values = ask(
    'linux/fuse.h',
    questions.map(([expression]) => expression),
  );
  for (const [i, [expression, ours]] of questions.entries()) t.equal(ours, values[i], expression);
  t.equal(opcodeName(1), 'LOOKUP', 'an opcode has a name');
  t.equal(opcodeName(99), 'opcode 99', 'an unknown opcode has a number');
  t.end();
});
