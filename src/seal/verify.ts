/** Whether a key vouches for a digest by a signature. */
import { type ByteString, printable } from '../sys/bytes.ts';
import { EACCES, ErrnoError } from '../sys/errno.ts';
import { algorithmOfHex } from '../verity/algorithms.ts';
import { NOT_SIGNED, OTHER_DATA, reasonAgainst } from './key.ts';
import { KEY_DIRECTORIES, type KeyFile } from './keys.ts';
import { readSignature } from './signature.ts';
import { signedBytes } from './signed-bytes.ts';

/** A digest that a key vouches for. */
export interface Voucher {
  /** 64 or 128 hexadecimal digits. */
  readonly digest: string;
  readonly key: KeyFile;
}

/** What is to be verified, in the words of messages. */
export interface SealNames {
  readonly image: string;
  readonly signature: string;
  /** The directories that keys were looked for in; undefined: KEY_DIRECTORIES. */
  readonly directories: readonly ByteString[] | undefined;
}

/**
 * Finds the first digest for which a key vouches by the signature.
 * @param digests those that the image has, by different algorithms; each is computed when it is asked for
 * Throws ErrnoError: EACCES if there are no keys, or if none vouches for any of the digests, with all keys and reasons, each in a line of
 * its own; as readSignature does.
 */
export function findVoucher(
  { image, signature, directories = KEY_DIRECTORIES }: SealNames,
  bytes: Uint8Array,
  digests: Iterable<string>,
  keys: readonly KeyFile[],
  now: Date = new Date(),
): Voucher {
  if (keys.length === 0)
    throw new ErrnoError(EACCES, `${image}: there is no key in ${directories.map(printable).join(' or ')}`);
  const signers = naming(signature, () => readSignature(bytes));
  const tried: string[] = [];
  const reasons = new Map<KeyFile, string>();
  for (const digest of digests) {
    tried.push(labelled(digest));
    const data = signedBytes(digest);
    for (const file of keys) {
      const reason = typeof file.key === 'string' ? file.key : reasonAgainst(file.key, signers, data, now);
      if (reason === undefined) return { digest, key: file };
      if (!reasons.has(file) || !WEAK.includes(reason)) reasons.set(file, reason);
    }
  }
  const unread = signers.flatMap(({ method }) => (typeof method === 'string' ? `${signature}: ${method}` : []));
  const lines = [...reasons].map(([file, reason]) => `${labelOf(file)}: ${reason}`);
  const head = `${image}: ${signature} is no signature of its digest ${tried.join(' or ')} by a key that counts`;
  throw new ErrnoError(EACCES, [head, ...new Set(unread), ...lines].join('\n'));
}

const WEAK: readonly string[] = [NOT_SIGNED, OTHER_DATA];

/** A file of a key with the subject of its certificate, for messages. */
export function labelOf({ path, key }: KeyFile): string {
  const subject = typeof key === 'string' ? undefined : key.subject;
  return subject === undefined ? printable(path) : `${printable(path)} (${subject})`;
}

/** A digest with its algorithm. */
export const labelled = (digest: string): string => `${algorithmOfHex(digest)}:${digest}`;

function naming<T>(name: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error;
    throw new ErrnoError(error.errno, `${name}: ${error.message}`);
  }
}
