/**
 * The keys that vouch for seals, in directories. A name in an earlier directory hides the same name in the later ones, and a link
 * to /dev/null there revokes it.
 */
import { closeSync, fstatSync } from 'node:fs';
import { namesIn, O_DIRECTORY, O_PATH, openIn, readFound } from '../sys/beneath.ts';
import { type ByteString, byteStringOf, printable } from '../sys/bytes.ts';
import { EACCES, EFBIG, ENOENT, ErrnoError, errnoText, must } from '../sys/errno.ts';
import { realPath } from '../sys/real-path.ts';
import { AT_FDCWD } from '../sys/statx.ts';
import { type Key, readKey } from './key.ts';
import { whyOthersCanChange } from './owners.ts';

/** The directories of the administrator and of the system. */
export const KEY_DIRECTORIES: readonly ByteString[] = ['/etc/lowerdata/keys.d', '/usr/lib/lowerdata/keys.d'];

/** A file in a directory of keys, with its key, or the reason why it has none that counts. */
export interface KeyFile {
  readonly path: ByteString;
  readonly key: Key | string;
}

const SUFFIX = '.pem';
const KEY_BYTES_MAX = 1 << 16;
const NAMES_MAX = 1000;
/** Device number of /dev/null. Source: kernel Documentation/admin-guide/devices.txt. */
const NULL_DEVICE = 0x103;

/**
 * Reads the keys of directories, those of the first one first, in the order of their names.
 * @param directories undefined: KEY_DIRECTORIES, which may be missing
 * Throws ErrnoError, with the directory: ENOENT if one is missing that was named; EACCES if users other than root and the caller can
 * change it; EFBIG for more than 1,000 names; or the error of reading it.
 */
export function readKeys(directories?: readonly ByteString[]): KeyFile[] {
  const seen = new Set<ByteString>();
  const found: KeyFile[] = [];
  for (const directory of directories ?? KEY_DIRECTORIES) {
    const what = `keys in ${printable(directory)}`;
    const absolute = directory.startsWith('/') ? directory : `${realPath('.')}/${directory}`;
    const fd = openIn(AT_FDCWD, directory, O_DIRECTORY, 0);
    if (fd === -ENOENT && directories === undefined) continue;
    must(fd, what);
    try {
      const reason = whyOthersCanChange(absolute);
      if (reason !== undefined) throw new ErrnoError(EACCES, `${what} do not count: ${reason}`);
      for (const name of namesOf(fd, what)) {
        if (seen.has(name)) continue;
        seen.add(name);
        found.push({ path: `${directory.replace(/\/+$/, '')}/${name}`, key: keyIn(fd, name, `${absolute}/${name}`) });
      }
    } finally {
      closeSync(fd);
    }
  }
  return found;
}

function namesOf(directory: number, what: string): ByteString[] {
  const names = namesIn(directory);
  if (typeof names === 'number') throw new ErrnoError(-names, `${what}: ${errnoText(names)}`);
  if (names.length > NAMES_MAX) throw new ErrnoError(EFBIG, `${what}: more than ${NAMES_MAX} names`);
  return names;
}

/** What a name in a directory leads to is opened only if it is a regular file. */
function keyIn(directory: number, name: ByteString, path: ByteString): Key | string {
  if (!name.endsWith(SUFFIX)) return `is not looked at: its name does not end in ${SUFFIX}`;
  const found = openIn(directory, name, O_PATH, 0);
  if (found < 0) return `cannot be read: ${errnoText(found)}`;
  try {
    const stats = fstatSync(found);
    if (stats.isCharacterDevice() && stats.rdev === NULL_DEVICE) return 'is revoked by a link to /dev/null';
    if (!stats.isFile()) return 'is not a regular file';
    const reason = whyOthersCanChange(path);
    if (reason !== undefined) return `does not count: ${reason}`;
    const bytes = readFound(found, KEY_BYTES_MAX);
    if (typeof bytes === 'number') return `cannot be read: ${errnoText(bytes)}`;
    return bytes.length > KEY_BYTES_MAX ? `has more than ${KEY_BYTES_MAX} bytes` : readKey(byteStringOf(bytes));
  } finally {
    closeSync(found);
  }
}
