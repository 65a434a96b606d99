/** The mounts of this mount namespace. Source: proc_pid_mountinfo(5). */
import { openSync, readFileSync, readSync } from 'node:fs';
import type { ByteString } from '../sys/bytes.ts';
import { EIO, ErrnoError, errnoText } from '../sys/errno.ts';

export interface Mount {
  readonly id: number;
  readonly parent: number;
  /** `major:minor` of its superblock, which is the same at every place where it is mounted. */
  readonly device: string;
  readonly path: ByteString;
  /** Flags of this mount, not of its superblock: `ro`, `nosuid`, `relatime`. */
  readonly flags: readonly string[];
  /** Whether its superblock is read-only, so that no flag of a mount makes it writable. */
  readonly isReadOnly: boolean;
  /** Whether the kernel itself checks permissions, for filesystems in userspace. */
  readonly hasDefaultPermissions: boolean;
  /** The type with its subtype: `fuse.lowerdata`. */
  readonly type: ByteString;
  readonly source: ByteString;
  /** The source as mountinfo spells it, with white space escaped. */
  readonly spelledSource: string;
  /** The ID of the user who mounted it, for filesystems in userspace; undefined for others. */
  readonly user: number | undefined;
}

/** Identifies a mount's superblock. The device number alone does not: it may be reused as soon as the first mount is gone. */
export type Identity = Pick<Mount, 'device' | 'source'>;

/** Whether both are the same superblock, as far as mountinfo can tell. */
export const isSame = (a: Identity, b: Identity): boolean => a.device === b.device && a.source === b.source;

/**
 * All mounts in the order in which they were made. Sends no request to a filesystem, so a dead one cannot block it. Throws
 * ErrnoError.
 */
export function readMounts(): Mount[] {
  try {
    return parseMounts(readFileSync(TABLE, 'latin1'));
  } catch (error) {
    const { errno = -EIO } = error as NodeJS.ErrnoException;
    throw new ErrnoError(-errno, `${TABLE}: ${errnoText(errno)}: mounts need /proc`);
  }
}
const TABLE = '/proc/self/mountinfo';

/** Reads the mounts repeatedly through one descriptor, even after this process can no longer open files. */
export class MountTable {
  private readonly fd = openSync(TABLE, 'r');

  /** All mounts, as `readMounts` returns them. */
  read(): Mount[] {
    const pieces: Buffer[] = [];
    for (let at = 0; ; ) {
      const piece = Buffer.alloc(PIECE_BYTES);
      const count = readSync(this.fd, piece, 0, PIECE_BYTES, at);
      if (count === 0) return parseMounts(Buffer.concat(pieces).toString('latin1'));
      pieces.push(piece.subarray(0, count));
      at += count;
    }
  }
}
const PIECE_BYTES = 65_536;

export function parseMounts(text: string): Mount[] {
  const mounts: Mount[] = [];
  for (const line of text.split('\n')) {
    const [before = '', after = ''] = line.split(' - '); // in the part before it, a space is spelled \040
    const [id, parent, device, , path, flags = ''] = before.split(' ');
    const [type, source, options = ''] = after.split(' ');
    const [, user] = /(?:^|,)user_id=(\d+)/.exec(options) ?? [];
    if (path === undefined || source === undefined) continue;
    mounts.push({
      id: Number(id),
      parent: Number(parent),
      device: device as string,
      path: decode(path),
      flags: flags.split(','),
      isReadOnly: /^ro(,|$)/.test(options),
      hasDefaultPermissions: /(^|,)default_permissions(,|$)/.test(options),
      type: decode(type as string),
      source: decode(source),
      spelledSource: source,
      user: user === undefined ? undefined : Number(user),
    });
  }
  return mounts;
}

/** The mount that is visible at `path`, an absolute path without symlinks: the topmost one there. undefined if there is none. */
export function mountAt(mounts: readonly Mount[], path: ByteString): Mount | undefined {
  return mounts.findLast(mount => mount.path === path && isOnTop(mounts, mount));
}

/** Whether no other mount covers this one at its own path, so that unmounting the path unmounts this mount. */
export function isOnTop(mounts: readonly Mount[], mount: Mount): boolean {
  return !mounts.some(other => other.parent === mount.id && other.path === mount.path);
}

/** Spells a path as mountinfo does. Source: linux/fs/proc_namespace.c, show_mountinfo. */
export function encodePath(path: ByteString): string {
  return path.replace(/[ \t\n\\]/g, byte => `\\${byte.charCodeAt(0).toString(8).padStart(3, '0')}`);
}

function decode(field: string): ByteString {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
