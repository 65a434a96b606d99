/**
 * The command in the place of fuse-overlayfs, as the mount program of containers/storage calls it: `PROGRAM -o OPTIONS MOUNTPOINT`.
 * Source: containers/storage, drivers/overlay/overlay.go; fuse-overlayfs(1).
 */
import { splitMountOptions } from '../mount/plan.ts';
import type { Option } from '../overlay/options/split.ts';
import type { ByteString } from '../sys/bytes.ts';
import { inInitialUserNamespace } from '../sys/security/privileges.ts';
import { complain, WRONG_CALL } from '../terminal/report.ts';

/** The name under which it is called. */
export const MOUNT_PROGRAM = 'fuse-overlayfs';

/** Whether a call without a command has this form. */
export const isProgramCall = (called: string, args: readonly ByteString[]): boolean =>
  called === MOUNT_PROGRAM || (args.length === 3 && args[0] === '-o');

/** What fuse-overlayfs does by default. */
const DEFAULTS: readonly ByteString[] = [
  'whiteouts=both',
  'xattr_permissions=0',
  'allow_other',
  'suid',
  'dev',
  'noatime',
];
/** Options that mean nothing here, or that mount(8) and the kernel have dealt with. */
const DROPPED: readonly ByteString[] = ['private', 'shared', 'slave', 'rprivate', 'context', 'ro', 'rw'];

/** Mounts, and returns the exit status. */
export async function runMountProgram(args: readonly ByteString[]): Promise<number> {
  const { options, words, flags } = sorted(args);
  const [target, ...others] = words;
  if (target === undefined || others.length > 0) {
    complain(`${MOUNT_PROGRAM}: usage: ${MOUNT_PROGRAM} [-f] [-d] -o lowerdir=A:B[,upperdir=C,workdir=D] MOUNTPOINT`);
    return WRONG_CALL;
  }
  const given = options.flatMap(splitMountOptions).flatMap(translated);
  const defaults = [...DEFAULTS, ...(inInitialUserNamespace() ? [] : ['userxattr'])];
  const { run } = await import('./commands/mount.ts');
  return run([...flags, '-s', '-o', [...defaults, ...given].join(','), 'lowerdata', target], 'containers/storage');
}

/** Sorts the words of a call. Options may come before or after the mount point. */
function sorted(args: readonly ByteString[]): { options: ByteString[]; words: ByteString[]; flags: ByteString[] } {
  const options: ByteString[] = [];
  const words: ByteString[] = [];
  const flags: ByteString[] = [];
  for (let i = 0; i < args.length; i++) {
    const word = args[i] as ByteString;
    if (word === '-o') options.push(args[++i] ?? '');
    else if (word.startsWith('-o')) options.push(word.slice(2));
    else if (word === '-f' || word === '-d') flags.push(word);
    else words.push(word);
  }
  return { options, words, flags };
}

/** An option in the words of `lowerdata mount`. */
function translated({ key, value }: Option): ByteString[] {
  if (key === '' || DROPPED.includes(key)) return [];
  if (key === 'volatile') return ['fsync=0']; // the mark would be in the way of the next mount
  return [value === undefined ? key : `${key}=${value}`];
}
