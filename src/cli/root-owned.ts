/** Checks whether users other than root can change the files that a path leads to. */
import { lstatSync, readdirSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';

const WRITABLE_BY_OTHERS = 0o022;
const STICKY = 0o1000;

/**
 * Finds the first file or directory that users other than root can write to, on the real path of a file or, if it is a directory,
 * anywhere below it.
 * @returns the path with the reason, as in `/home/me belongs to user 1000`; undefined if there is none. Access control lists are
 * not checked.
 */
export function writableByOthers(path: string): string | undefined {
  const real = realpathSync(path);
  const above = ancestors(real);
  const below = lstatSync(real).isDirectory() ? readdirSync(real, { recursive: true, encoding: 'utf8' }) : [];
  for (const part of [...above, ...below.map(name => join(real, name))]) {
    const reason = reasonOf(part);
    if (reason !== undefined) return `${part} ${reason}`;
  }
  return undefined;
}

/** The root directory and every directory below it on the path, then the path itself. */
function ancestors(path: string): string[] {
  const parent = dirname(path);
  return parent === path ? [path] : [...ancestors(parent), path];
}

function reasonOf(path: string): string | undefined {
  const stats = lstatSync(path);
  const { uid, gid, mode } = stats;
  if (uid !== 0) return `belongs to user ${uid}`;
  if (stats.isSymbolicLink() || (mode & WRITABLE_BY_OTHERS) === 0 || (mode & STICKY) !== 0) return undefined;
  return mode & 0o002 ? 'is writable by everyone' : `is writable by group ${gid}`;
}
