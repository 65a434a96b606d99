/** The arguments as the bytes that the kernel handed over. */
import { readFileSync } from 'node:fs';
import { type Name, nameFromText } from '../sys/bytes.ts';

/** The arguments after the script, as byte strings. Node has decoded them as UTF-8, which loses every other byte. */
export function argumentBytes(): Name[] {
  const texts = process.argv.slice(2);
  if (!texts.some(text => text.includes('\ufffd'))) return texts.map(nameFromText);
  const all = readFileSync('/proc/self/cmdline', 'latin1').split('\0');
  all.pop(); // each one ends with a NUL
  return all.slice(-texts.length);
}

/** The argument with which the command calls itself to be the daemon. */
export const DAEMON_WORD = '--daemon';
