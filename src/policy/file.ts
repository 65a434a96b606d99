/** Where the policy for images is. */
import { closeSync, lstatSync } from 'node:fs';
import { whyOthersCanChange } from '../seal/owners.ts';
import { O_PATH, openIn, readSmallFile } from '../sys/beneath.ts';
import { type ByteString, bufferOf, printable } from '../sys/bytes.ts';
import { EACCES, ENOENT, ErrnoError, must } from '../sys/errno.ts';
import { realPath } from '../sys/real-path.ts';
import { AT_FDCWD } from '../sys/statx.ts';
import type { PolicyRules } from './grammar.ts';

/** The files of the administrator and of the system: the first one that is there counts alone. */
export const POLICY_FILES: readonly ByteString[] = ['/etc/lowerdata/policy.json', '/usr/lib/lowerdata/policy.json'];

const POLICY_BYTES_MAX = 1 << 20;

export interface Policy {
  readonly file: ByteString;
  readonly rules: PolicyRules;
}

/**
 * Reads the policy. A file that is there and cannot be used is an error.
 * @param file in place of POLICY_FILES; it must be there
 * @returns undefined if there is none, so that every image is allowed
 * Throws ErrnoError with the path: EACCES if users other than root and the caller can change it; EFBIG above 1 MiB; EUCLEAN if it is no
 * policy; or the error of reading it.
 */
export async function readPolicy(file?: ByteString): Promise<Policy | undefined> {
  for (const path of file === undefined ? POLICY_FILES : [file]) {
    const what = `policy ${printable(path)}`;
    const found = openIn(AT_FDCWD, path, O_PATH, 0);
    if (found === -ENOENT && file === undefined && !isThere(path)) continue;
    must(found, what);
    try {
      const bytes = contentOf(found, path, what);
      const { parsePolicy } = await import('./grammar.ts'); // most machines have no policy
      return { file: path, rules: parsePolicy(bytes, what) };
    } finally {
      closeSync(found);
    }
  }
  return undefined;
}

/** Whether a name is there, if only as a link to nothing. */
const isThere = (path: ByteString): boolean => lstatSync(bufferOf(path), { throwIfNoEntry: false }) !== undefined;

function contentOf(found: number, path: ByteString, what: string): Uint8Array {
  const bytes = readSmallFile(found, POLICY_BYTES_MAX, what);
  const reason = whyOthersCanChange(path.startsWith('/') ? path : `${realPath('.')}/${path}`);
  if (reason !== undefined) throw new ErrnoError(EACCES, `${what} does not count: ${reason}`);
  return bytes;
}
