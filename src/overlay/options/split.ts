/** Splits the option text of a mount at its separators. */
import type { ByteString } from '../../sys/bytes.ts';

/** One option; `value` is undefined for a flag. */
export interface Option {
  readonly key: ByteString;
  readonly value: ByteString | undefined;
}

/**
 * Splits an option string at commas. A backslash keeps the next byte from separating options, and stays in the value.
 * Empty options, and those without a key, are dropped. Source: linux/fs/overlayfs/params.c, ovl_next_opt.
 * @example
 * const [first, second] = splitOptions('lowerdir=a\\,b:c,userxattr');
 * assert.deepEqual(first, { key: 'lowerdir', value: 'a\\,b:c' });
 * assert.deepEqual(second, { key: 'userxattr', value: undefined });
 */
export function splitOptions(text: ByteString): Option[] {
  const options: Option[] = [];
  for (const option of splitAt(text, ',')) {
    const equals = option.indexOf('=');
    if (equals > 0) options.push({ key: option.slice(0, equals), value: option.slice(equals + 1) });
    else if (equals < 0 && option !== '') options.push({ key: option, value: undefined });
  }
  return options;
}

/** Splits `text` at separators that have no backslash before them; backslashes stay. */
export function splitAt(text: ByteString, separator: ',' | ':'): ByteString[] {
  const pieces: ByteString[] = [];
  let from = 0;
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '\\') i++;
    else if (text[i] === separator) {
      pieces.push(text.slice(from, i));
      from = i + 1;
    }
  }
  pieces.push(text.slice(from));
  return pieces;
}
