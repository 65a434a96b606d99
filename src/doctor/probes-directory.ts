/** Probes of a directory, such as an object store, and of its filesystem. Each is a row of `directoryProbes`. */
import { readMounts } from '../fuse/mountinfo.ts';
import { type ByteString, bufferOf, printable } from '../sys/bytes.ts';
import { ENODATA, ENOTTY, errnoText } from '../sys/errno.ts';
import { openHandle, readHandle, readUuid } from '../sys/handles.ts';
import { native } from '../sys/native.ts';
import { AT_FDCWD, statx, statxMountId } from '../sys/statx.ts';
import { type Answer, askAll, contentsOf, type Fact, type NamedProbe, no, yes } from './facts.ts';
import { isSince, type KernelVersion, type Machine } from './machine.ts';

interface ProbedDirectory {
  /** The directory, open for reading. */
  readonly fd: number;
  /** The filesystem type in mountinfo; '' if mountinfo does not show the mount. */
  readonly type: ByteString;
  readonly machine: Machine;
}

const O_DIRECTORY = 0o200000;
const O_PATH = 0o10000000;

const directoryProbes: readonly NamedProbe<ProbedDirectory>[] = [
  ['filesystem', filesystem],
  ['uuid', uuid],
  ['handles', handles],
  ['open-by-handle', openByHandle],
  ['fs-verity', verity],
  ['change-times', changeTimes],
];

/** All facts of a directory; if it cannot be opened, a single fact that says why. */
export function probeDirectory(path: ByteString, machine: Machine): Fact[] {
  const fd = native.openat2(AT_FDCWD, path, O_DIRECTORY, 0);
  if (fd < 0) {
    const why = `${printable(path)}: ${errnoText(fd)}`;
    return [{ name: 'filesystem', ...no(null, why, 'a directory that this user may read') }];
  }
  try {
    const mount = statx(fd, '') < 0 ? undefined : readMounts().find(({ id }) => id === statxMountId());
    return askAll(directoryProbes, { fd, type: mount?.type ?? '', machine });
  } finally {
    native.close(fd);
  }
}

function filesystem({ type }: ProbedDirectory): Answer {
  return type === '' ? no(null, 'mountinfo does not show it', 'a mount in this mount namespace') : yes(printable(type));
}

/** Linux 6.9 introduced FS_IOC_GETFSUUID. */
const UUID_SINCE: KernelVersion = [6, 9];

function uuid({ fd, type, machine: { kernel } }: ProbedDirectory): Answer {
  const hex = Buffer.from(bufferOf(readUuid(fd))).toString('hex');
  if (/[^0]/.test(hex)) return yes(hex.replace(/^(.{8})(....)(....)(....)/, '$1-$2-$3-$4-'));
  if (!isSince(kernel, UUID_SINCE)) return no(null, 'the kernel does not report it', 'Linux 6.9');
  return no(
    null,
    'none: origins cannot lead here',
    type === 'ext4' ? 'tune2fs -U random DEVICE' : 'ext4, xfs or btrfs',
  );
}

function handles({ fd }: ProbedDirectory): Answer {
  const handle = readHandle(fd, '');
  if (typeof handle !== 'number') return yes(`name_to_handle_at(2), ${handle.bytes.length} bytes`);
  return no(null, `name_to_handle_at(2): ${errnoText(handle)}`, 'ext4, xfs or btrfs');
}

/** Opens the directory itself by its handle. */
function openByHandle({ fd }: ProbedDirectory): Answer {
  const handle = readHandle(fd, '');
  if (typeof handle === 'number') return no(null, 'the filesystem has no file handles', 'ext4, xfs or btrfs');
  const opened = openHandle(fd, handle, O_PATH);
  if (opened < 0)
    return no(null, `open_by_handle_at(2): ${errnoText(opened)}`, 'root, or an index: lowerdata index DIR');
  native.close(opened);
  return yes('open_by_handle_at(2)');
}

/**
 * Measures the directory: a filesystem with fs-verity answers ENODATA. EOPNOTSUPP means that it supports fs-verity, but not here.
 */
function verity({ fd, type }: ProbedDirectory): Answer {
  const result = native.measureVerity(fd, new Uint8Array(0));
  if (result === -ENODATA) return yes('the kernel checks what it reads');
  const why = `${errnoText(result)}: lowerdata checks data itself`;
  if (result === -ENOTTY) return no(null, why, 'ext4, btrfs or f2fs');
  if (type !== 'ext4') return no(null, why, 'a kernel with CONFIG_FS_VERITY');
  return no(null, why, `${kernelHasVerity() ? '' : 'a kernel with CONFIG_FS_VERITY, and '}tune2fs -O verity DEVICE`);
}
const kernelHasVerity = (): boolean => contentsOf('/sys/fs/ext4/features/verity') !== undefined;

/** Multigrain timestamps: two changes differ in ctime if the file was stat'ed in between. Source: multigrain-ts.rst. */
const MULTIGRAIN_SINCE: KernelVersion = [6, 13];
const MULTIGRAIN = ['ext4', 'xfs', 'btrfs', 'tmpfs'];

function changeTimes({ type, machine: { kernel } }: ProbedDirectory): Answer {
  const isFine = isSince(kernel, MULTIGRAIN_SINCE);
  if (isFine && MULTIGRAIN.includes(type)) return yes('two changes with a look between them differ in their times');
  const why = 'changes in one tick of the clock may have the same time';
  return no(null, why, isFine ? MULTIGRAIN.join(', ') : 'Linux 6.13');
}
