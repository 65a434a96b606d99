/** The arguments as the bytes that the kernel handed over, and what bin/lowerdata has put before them. */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { type ByteString, byteStringFromText } from '../sys/bytes.ts';

/** The descriptor on which bin/lowerdata waits for the exit status of a daemon. */
export const CHANNEL = 3;

export interface Call {
  /** The name of the program, which may be that of a symlink. */
  readonly called: string;
  /** Whether bin/lowerdata waits on CHANNEL. */
  readonly isDaemon: boolean;
  readonly args: readonly ByteString[];
}

/** What this process was called with: `[--called NAME] [--daemon] ARGUMENT...`. */
export function readCall(): Call {
  const args = argumentBytes();
  const [, name = process.argv[1] ?? ''] = args[0] === '--called' ? args.splice(0, 2) : [];
  const isDaemon = args[0] === '--daemon';
  return { called: basename(name), isDaemon, args: isDaemon ? args.slice(1) : args };
}

/** The arguments after the script, as byte strings. Node has decoded them as UTF-8, which loses every other byte. */
function argumentBytes(): ByteString[] {
  const texts = process.argv.slice(2);
  if (!texts.some(text => text.includes('\ufffd'))) return texts.map(byteStringFromText);
  const all = readFileSync('/proc/self/cmdline', 'latin1').split('\0');
  all.pop(); // each one ends with a NUL
  return all.slice(-texts.length);
}
