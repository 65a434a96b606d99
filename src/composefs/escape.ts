/** The escapes of composefs-dump(5): `\xXX`, `\\`, `\n`, `\r` and `\t`. */
import type { ByteString } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';

const LETTERS: Record<string, string> = { '\\': '\\', n: '\n', r: '\r', t: '\t' };

/** The bytes that a field stands for. Throws ErrnoError EINVAL for a truncated or unknown escape. */
export function unescapeField(field: ByteString): ByteString {
  if (!field.includes('\\')) return field;
  return field.replace(/\\(x.{0,2}|.|$)/gs, (sequence, what: string) => {
    if (what[0] !== 'x') return LETTERS[what] ?? refuse(sequence);
    return /^x[0-9a-fA-F]{2}$/.test(what) ? String.fromCharCode(Number.parseInt(what.slice(1), 16)) : refuse(sequence);
  });
}

function refuse(sequence: string): never {
  const cut = sequence.length < 2 || (sequence[1] === 'x' && sequence.length < 4);
  throw new ErrnoError(EINVAL, `escape ${JSON.stringify(sequence)} is ${cut ? 'cut short' : 'unknown'}`);
}

/** The text of a field: every byte except visible ASCII characters is escaped, and backslashes too. */
export const escapeField = (bytes: ByteString): ByteString =>
  UNSAFE.test(bytes) ? bytes.replace(EACH_UNSAFE, escapeByte) : bytes;
const UNSAFE = /[^!-[\]-~]/;
const EACH_UNSAFE = new RegExp(UNSAFE, 'g');

/** The text of an xattr's name or value, in which `=` is escaped as well because it separates the two. */
export const escapeXattr = (bytes: ByteString): ByteString => escapeField(bytes).replaceAll('=', '\\x3d');

/** The text of an optional field: `-` if it is unset. A value of `-` is escaped. */
export const escapeOptional = (bytes: ByteString | undefined): ByteString =>
  bytes === undefined ? '-' : bytes === '-' ? '\\x2d' : escapeField(bytes);

const SHORT: Record<string, string> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' };
const escapeByte = (c: string): string => SHORT[c] ?? `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`;
