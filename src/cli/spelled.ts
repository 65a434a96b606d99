/** Paths spelled for where they are read again. */
import type { ByteString } from '../sys/bytes.ts';

/** A path with the escapes that options and stacks need. */
export const escapedPath = (path: ByteString): ByteString => path.replace(/[,:\\"]/g, '\\$&');

/** A word of a command line as sh(1) reads it, quoted only if that is necessary. */
export const shellWord = (word: ByteString): ByteString =>
  /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
