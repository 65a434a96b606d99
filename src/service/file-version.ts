/** When two open files have the same contents. */
import { fstatSync } from 'node:fs';

/** Identifies the contents of an open file, as far as its filesystem notes changes. */
export function versionOf(fd: number): string {
  const { dev, ino, size, mtimeNs, ctimeNs } = fstatSync(fd, { bigint: true });
  return [dev, ino, size, mtimeNs, ctimeNs].join(':');
}
