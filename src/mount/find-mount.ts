/** Finds the mount that a user has named, even if it is dead. */
import { type Mount, mountAt, readMounts } from '../fuse/mountinfo.ts';
import type { ByteString } from '../sys/bytes.ts';
import { realPath } from '../sys/real-path.ts';

/**
 * The mount at a path; undefined if there is none. Only the path above the mount point is resolved first, since the mount may be
 * dead.
 */
export function findMount(path: ByteString): Mount | undefined {
  const mounts = readMounts();
  const trimmed = path.replace(/(?<=.)\/+$/s, '');
  const slash = trimmed.lastIndexOf('/');
  const last = trimmed.slice(slash + 1);
  const above = slash < 0 ? '.' : trimmed.slice(0, slash) || '/';
  const parent = last === '.' || last === '..' ? undefined : pathIfThere(above);
  const found = parent !== undefined && mountAt(mounts, `${parent === '/' ? '' : parent}/${last}`);
  if (found) return found;
  const real = pathIfThere(path); // the path may be a symlink
  return real === undefined ? undefined : mountAt(mounts, real);
}

function pathIfThere(path: ByteString): ByteString | undefined {
  try {
    return realPath(path);
  } catch {
    return undefined;
  }
}
