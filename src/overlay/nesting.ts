/** The depth of overlays below a layer. The kernel refuses a third overlay on top of two, and so does this code: see rule S6. */
import { readFileSync, statfsSync, statSync } from 'node:fs';
import { type ByteString, bufferOf, printable } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';
import { parseLowerdir } from './options/lowerdir.ts';
import { splitOptions } from './options/split.ts';

/** f_type of overlayfs. Source: linux/magic.h. */
const OVERLAYFS_SUPER_MAGIC = 0x794c7630;
/** The maximum number of overlays below ours. Source: linux/fs.h, FILESYSTEM_MAX_STACK_DEPTH, less our own. */
const DEPTH_MAX = 1;

/** Throws EINVAL for a directory on an overlay that itself has a layer on an overlay. */
export function refuseDeepNesting(path: ByteString): void {
  if (overlaysBelow(path, DEPTH_MAX) > DEPTH_MAX) {
    throw new ErrnoError(
      EINVAL,
      `layer ${printable(path)}: it is on an overlay of an overlay, and overlays nest no deeper`,
    );
  }
}

/** The number of overlays below a path: 0 if it is on no overlay or cannot be examined. Counts no further than `limit` + 1. */
function overlaysBelow(path: ByteString, limit: number): number {
  const at = bufferOf(path);
  try {
    if (statfsSync(at).type !== OVERLAYFS_SUPER_MAGIC) return 0;
    if (limit === 0) return 1;
    return 1 + Math.max(0, ...lowersOf(statSync(at).dev).map(lower => overlaysBelow(lower, limit - 1)));
  } catch {
    return 0; // a layer of another mount, which we may not or cannot see
  }
}

/**
 * The normal layers of the mounted overlay with this device number, as they were given to its mount. Source:
 * proc_pid_mountinfo(5).
 */
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
