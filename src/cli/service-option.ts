/** `--service[=SOCKET]`: the service does what the command would do. */
import type { Command } from 'commander';
import { SERVICE_SOCKET } from '../service/socket.ts';
import { type ByteString, printable } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';

const OPTION = '--service';

/** Adds the option. @param what the service does */
export const withServiceOption = (command: Command, what: string): Command =>
  command.option(`${OPTION} [socket]`, `${what}; --service=SOCKET for one that listens elsewhere`);

/** Gives the option its value, so that commander does not take the next word for it. */
export function withSocket(args: readonly ByteString[]): ByteString[] {
  const end = args.indexOf('--');
  return args.map((arg, i) => (arg === OPTION && (end < 0 || i < end) ? `${OPTION}=${SERVICE_SOCKET}` : arg));
}

/** Refuses options that do not go with the service. Throws ErrnoError EINVAL. @param flags as commander names them */
export function checkServiceFlags(flags: object, known: readonly string[]): void {
  const other = Object.keys(flags).find(name => name !== 'service' && !known.includes(name));
  if (other === undefined) return;
  const option = other.replace(/[A-Z]/g, letter => `-${letter.toLowerCase()}`);
  throw new ErrnoError(EINVAL, `--${printable(option)}: not with ${OPTION}, which decides that itself`);
}
