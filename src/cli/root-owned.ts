/** Whether others than root can change what a path leads to. */
import { lstatSync, readdirSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';

const WRITABLE_BY_OTHERS = 0o022;
const STICKY = 0o1000;

/**
 * The first directory or file on the real path of a file, or below it where it is a directory, that others than root can write to,
 * with the reason: `/home/me belongs to user 1000`. undefined: there is none. Access control lists are not looked at.
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

/** The root directory, and what follows down to the path itself. */
function ancestors(path: string): string[] {
  const parent = dirname(path);
  return parent === path ? [path] : [...ancestors(parent), path];
}

function reasonOf(path: string): string | undefined {
  const stats = lstatSync(path);
  const { uid, gid, mode } = stats;
  if (uid !== 0) return `belongs to user ${uid}`;
  if (stats.isSymbolicLink() || (mode & WRITABLE_BY_OTHERS) === 0 || (mode & STICKY) !== 0) return undefined;
  return mode & 0o002 ? 'can be written to by everybody' : `can be written to by group ${gid}`;
}
