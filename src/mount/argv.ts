/** The arguments as the bytes that the kernel passed, and the words that bin/lowerdata put before them. */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { type ByteString, byteStringFromText } from '../sys/bytes.ts';

export interface Call {
  /** The name by which the program was called, which may be that of a symlink. */
  readonly called: string;
  /** The descriptor on which bin/lowerdata waits for the exit status of this process, the daemon; undefined if it is none. */
  readonly channel: number | undefined;
  /** In a daemon that goes on with a mount: how many have died in quick succession; undefined in all others. */
  readonly deaths: number | undefined;
  /** Whether this process serves mounts for the service. */
  readonly isServer: boolean;
  /** Whether this process does one task for the service. */
  readonly isHelper: boolean;
  readonly args: readonly ByteString[];
}

/** Parses the arguments of this process: `[--called NAME] [--server | --helper | --resume DEATHS | [--daemon DESCRIPTOR] ARGUMENT...]`. */
export function readCall(): Call {
  const args = argumentBytes();
  const [, name = process.argv[1] ?? ''] = args[0] === '--called' ? args.splice(0, 2) : [];
  const isServer = args[0] === '--server';
  const isHelper = args[0] === '--helper';
  const [, deaths] = args[0] === '--resume' ? args.splice(0, 2) : [];
  const [, channel] = args[0] === '--daemon' ? args.splice(0, 2) : [];
  return { called: basename(name), channel: numberIn(channel), deaths: numberIn(deaths), isServer, isHelper, args };
}

const numberIn = (word: ByteString | undefined): number | undefined => (word === undefined ? undefined : Number(word));

/** The arguments after the script, as byte strings. Node.js decodes arguments as UTF-8, which loses all other bytes. */
function argumentBytes(): ByteString[] {
  const texts = process.argv.slice(2);
  if (!texts.some(text => text.includes('\ufffd'))) return texts.map(byteStringFromText);
  const all = readFileSync('/proc/self/cmdline', 'latin1').split('\0');
  all.pop(); // each argument ends with a NUL
  return all.slice(-texts.length);
}
