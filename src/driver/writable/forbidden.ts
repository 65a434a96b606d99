/** What the flags immutable and append-only forbid for attributes and data; for names, see upper/protection.ts. */
import type { Setattr } from '../../fuse/filesystem.ts';
import type { UpperNode } from '../../upper/node.ts';
import { APPEND_ONLY, IMMUTABLE } from '../../upper/protection.ts';

// Source: asm-generic/fcntl.h, linux/falloc.h
const O_ACCMODE = 3;
const O_WRONLY = 1;
const O_TRUNC = 0o1000;
const O_APPEND = 0o2000;
const FALLOC_FL_KEEP_SIZE = 1;

/**
 * Whether attributes may not change. A change of times by an open file is what the kernel has noted of earlier writes, and a
 * file that was opened for writing before it became immutable goes on. Source: kernel may_setattr, vfs_truncate, do_ftruncate.
 */
export function forbidsSetattr({ protection }: UpperNode, change: Setattr): boolean {
  if (protection === 0) return false;
  const { mode, uid, gid, size, atime, mtime, fh } = change;
  if (mode !== undefined || uid !== undefined || gid !== undefined) return true;
  const isImmutable = (protection & IMMUTABLE) !== 0;
  if (size !== undefined) return (protection & APPEND_ONLY) !== 0 || (isImmutable && fh === undefined);
  if (fh !== undefined) return false;
  const isSet = [atime, mtime].some(time => typeof time === 'object');
  return isSet || ((atime ?? mtime) !== undefined && isImmutable);
}

/**
 * Whether an open is refused. An append-only file is never open for reading as well as writing: such a file can be mapped, and
 * the kernel would show what is written to the map to others. Source: kernel inode_permission, may_open.
 */
export function forbidsOpen({ protection }: UpperNode, flags: number): boolean {
  if (protection === 0) return false;
  const access = flags & O_ACCMODE;
  if (access === 0 && (flags & O_TRUNC) === 0) return false;
  return (protection & IMMUTABLE) !== 0 || access !== O_WRONLY || (flags & (O_APPEND | O_TRUNC)) !== O_APPEND;
}

/** Whether an open for writing is one for appending alone. */
export const isForAppending = ({ protection }: UpperNode, flags: number): boolean =>
  (protection & APPEND_ONLY) !== 0 && (flags & O_ACCMODE) !== 0;

/** Source: kernel vfs_fallocate. */
export const forbidsFallocate = ({ protection }: UpperNode, mode: number): boolean =>
  (protection & IMMUTABLE) !== 0 || ((protection & APPEND_ONLY) !== 0 && (mode & ~FALLOC_FL_KEEP_SIZE) !== 0);
