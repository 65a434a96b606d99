/** Checks whether users other than root can change the files that a path leads to. */
import { lstatSync, readdirSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { byteStringFromText } from '../sys/bytes.ts';
import { ancestors, reasonToDistrust } from '../sys/security/changeable.ts';

const ROOT = [0];

/**
 * Finds the first file or directory that users other than root can write to, on the real path of a file or, if it is a directory,
 * anywhere below it.
 * @returns the path with the reason, as in `/home/me belongs to user 1000`; undefined if there is none. Access control lists are
 * not checked.
 */
export function writableByOthers(path: string): string | undefined {
  const real = realpathSync(path);
  const below = lstatSync(real).isDirectory() ? readdirSync(real, { recursive: true, encoding: 'utf8' }) : [];
  for (const part of [...ancestors(real), real, ...below.map(name => join(real, name))]) {
    const reason = reasonToDistrust(byteStringFromText(part), ROOT, true);
    if (reason !== undefined) return `${part} ${reason}`;
  }
  return undefined;
}
