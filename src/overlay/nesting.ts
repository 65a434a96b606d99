/** How deep overlays are stacked below a layer. The kernel refuses a third one, and so do we: see rule S6. */
import { readFileSync, statfsSync, statSync } from 'node:fs';
import { type ByteString, bufferOf, printable } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';
import { parseLowerdir, splitOptions } from './options.ts';

/** f_type of overlayfs. Source: linux/magic.h. */
const OVERLAYFS_SUPER_MAGIC = 0x794c7630;
/** Overlays that may be below an overlay. Source: linux/fs.h, FILESYSTEM_MAX_STACK_DEPTH less our own. */
const DEPTH_MAX = 1;

/** Throws EINVAL for a directory on an overlay that has an overlay for a layer itself. */
export function refuseDeepNesting(path: ByteString): void {
  if (overlaysBelow(path, DEPTH_MAX) > DEPTH_MAX) {
    throw new ErrnoError(EINVAL, `layer ${printable(path)}: on an overlay of an overlay, which is as deep as they go`);
  }
}

/** 0 for a path that is on no overlay, or that can not be asked; counts no further than one past `limit`. */
function overlaysBelow(path: ByteString, limit: number): number {
  const at = bufferOf(path);
  try {
    if (statfsSync(at).type !== OVERLAYFS_SUPER_MAGIC) return 0;
    if (limit === 0) return 1;
    return 1 + Math.max(0, ...lowersOf(statSync(at).dev).map(lower => overlaysBelow(lower, limit - 1)));
  } catch {
    return 0; // a layer of somebody else's mount, that we may not or can not see
  }
}

/** The normal layers of a mounted overlay, as they were given when it was mounted. Source: proc_pid_mountinfo(5). */
function lowersOf(device: number): ByteString[] {
  const number = `${(device >> 8) & 0xfff}:${(device & 0xff) | ((device >> 12) & 0xfff00)}`;
  const lines = readFileSync('/proc/self/mountinfo', 'latin1').split('\n');
  const options =
    lines
      .find(line => line.split(' ')[2] === number)
      ?.split(' ')
      .at(-1) ?? '';
  const unescaped = options.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)));
  return splitOptions(unescaped).flatMap(({ key, value = '' }) => {
    if (key === 'lowerdir+') return [value];
    return key === 'lowerdir' ? parseLowerdir(value).map(layer => layer.path) : [];
  });
}
