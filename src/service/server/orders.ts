/**
 * What the broker asks of a server process, and what the server reports: messages of JSON over a socket of the type SOCK_SEQPACKET, with
 * descriptors. Both ends are this program; the server's is believed by the broker only as far as its own mounts go.
 */
import { writeSync } from 'node:fs';
import type { InitFlagName } from '../../fuse/init.ts';
import { E2BIG, EPROTO, ErrnoError, must } from '../../sys/errno.ts';
import { native } from '../../sys/native.ts';

/** Comes first. Descriptors: the directories of objects. */
export interface Begin {
  readonly kind: 'begin';
  /** The paths of these directories, for messages. */
  readonly objects: readonly string[];
  /** Whether files may be registered for passthrough. */
  readonly mayPassThrough: boolean;
}

/** A mount to serve. Descriptors: /dev/fuse, the file of backing ids, the image, and directories of objects of its own. */
export interface Serve {
  readonly kind: 'serve';
  /** Chosen by the broker. */
  readonly id: number;
  /** How messages name the image. */
  readonly image: string;
  /** The fs-verity digest, by SHA-256 or SHA-512, that the image must have; undefined: any. */
  readonly digest?: string | undefined;
  readonly verity: 'off' | 'on' | 'require';
  /** The result of INIT, if an earlier process has answered it. */
  readonly connection?: ConnectionFields | undefined;
}

export interface ConnectionFields {
  readonly minor: number;
  readonly flags: readonly InitFlagName[];
}

/** The mount is to be served no longer. */
export interface End {
  readonly kind: 'end';
  readonly id: number;
}

export type Order = Begin | Serve | End;

export type ServerReport =
  /** The server takes mounts. */
  | { readonly kind: 'begun'; readonly confinement: string }
  /** The kernel can send requests. */
  | { readonly kind: 'ready'; readonly id: number; readonly digest: string; readonly connection: ConnectionFields }
  /** A mount has ended: it was unmounted, or could not be served. */
  | { readonly kind: 'ended'; readonly id: number; readonly how: string; readonly errno: number }
  | { readonly kind: 'log'; readonly line: string };

/** The descriptor of the socket in a server process. */
export const CHANNEL = 3;
const MESSAGE_BYTES = 1 << 16;
const DESCRIPTORS_MAX = 64;

/** Sends a message with descriptors, which stay open here. Throws an error if the other process is gone or does not read. */
export function send(channel: number, message: Order | ServerReport, fds: readonly number[] = []): void {
  const bytes = Buffer.from(JSON.stringify(message));
  if (bytes.length > MESSAGE_BYTES) throw new ErrnoError(E2BIG, `a message of ${bytes.length} bytes`);
  if (fds.length === 0)
    writeSync(channel, bytes); // which a confined process may do
  else must(native.sendMessage(channel, bytes, Int32Array.from(fds)), 'a message between processes of the service');
}

/**
 * Receives a message. @returns the message and its descriptors; undefined at the end
 * Throws ErrnoError, EAGAIN if there is none.
 */
export function receive<T extends Order | ServerReport>(
  channel: number,
): { readonly message: T; readonly fds: number[] } | undefined {
  const bytes = Buffer.alloc(MESSAGE_BYTES);
  const places = new Int32Array(DESCRIPTORS_MAX);
  const length = must(native.receiveMessage(channel, bytes, places), 'a message between processes of the service');
  if (length === 0) return undefined;
  const fds = [...places].filter(fd => fd >= 0);
  try {
    return { message: JSON.parse(bytes.toString('utf8', 0, length)) as T, fds };
  } catch {
    for (const fd of fds) native.close(fd);
    throw new ErrnoError(EPROTO, 'a message between processes of the service is no JSON');
  }
}
