/** Values of `overlay.redirect`: the path in the layers below of the object that this one merges with or takes its data from. */
import { type ByteString, byteStringOf } from '../sys/bytes.ts';

/**
 * Parses the value of the xattr; it ends at the first NUL.
 *
 *     name    replaces the last component ('.', '..' and '' are refused by the walk, not here)
 *     /a/b    a path from the root of the layers below
 *     //a/b   a path in data-only layers and nowhere else; only a metacopy file may have it
 *
 * @returns the redirect; undefined for an invalid one: no bytes, an empty component, a trailing slash, a slash in a name
 * Source: kernel fs/overlayfs/util.c, ovl_get_redirect_xattr; `//`: A. Larsson, linux-unionfs, 25 May 2023.
 * @example
 * assert.equal(parseRedirect(bufferOf('/a/b')), '/a/b');
 * assert.equal(parseRedirect(bufferOf('a/b')), undefined); // a slash in a name
 */
export function parseRedirect(value: Uint8Array): ByteString | undefined {
  if (value.length === 0) return undefined;
  const whole = byteStringOf(value);
  const end = whole.indexOf('\0');
  const text = end < 0 ? whole : whole.slice(0, end);
  if (text[0] !== '/') return text.includes('/') ? undefined : text;
  const path = isDataRedirect(text) ? text.slice(1) : text;
  return path.endsWith('/') || path.includes('//') ? undefined : text;
}

export const isAbsolute = (redirect: ByteString): boolean => redirect.charCodeAt(0) === 0x2f;

/** Whether a redirect leads only to data-only layers: it begins with two slashes. */
export const isDataRedirect = (redirect: ByteString): boolean => redirect.startsWith('//');
