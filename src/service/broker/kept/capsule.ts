/**
 * A record with descriptors, as one descriptor: that of a socket in which a message waits. So a service manager can keep it, who knows
 * nothing of records.
 */
import { must } from '../../../sys/errno.ts';
import { native } from '../../../sys/native.ts';
import { SOCK_SEQPACKET } from '../../../sys/sockets/types.ts';

const RECORD_BYTES_MAX = 1 << 16;
const DESCRIPTORS_MAX = 64;
// asm-generic/socket.h, linux/socket.h
const MSG_PEEK = 0x2;
const MSG_DONTWAIT = 0x40;

export interface Capsule {
  readonly record: unknown;
  /** They belong to who has opened it. */
  readonly fds: readonly number[];
}

/** Makes one. The descriptors stay open here. Throws ErrnoError. */
export function makeCapsule(record: object, fds: readonly number[]): number {
  const pair = new Int32Array(2);
  must(native.socketPair(pair, SOCK_SEQPACKET), 'socketpair');
  const [written = -1, kept = -1] = pair;
  const sent = native.sendMessage(written, Buffer.from(JSON.stringify(record)), Int32Array.from(fds));
  native.close(written);
  if (sent < 0) native.close(kept);
  must(sent, 'a record with descriptors');
  return kept;
}

/** Copies what is in one, and closes it: who keeps it has it as it was. Throws ErrnoError for a socket that is none. */
export function openCapsule(fd: number): Capsule {
  const bytes = Buffer.alloc(RECORD_BYTES_MAX);
  const places = new Int32Array(DESCRIPTORS_MAX);
  try {
    const length = must(native.receiveMessage(fd, bytes, places, MSG_PEEK | MSG_DONTWAIT), 'a record with descriptors');
    return { record: JSON.parse(bytes.toString('utf8', 0, length)), fds: [...places].filter(place => place >= 0) };
  } finally {
    native.close(fd);
  }
}
