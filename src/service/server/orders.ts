/**
 * What the broker asks of a server process, and what the server reports: messages of JSON over a socket of the type SOCK_SEQPACKET, with
 * descriptors. A server may be in the hands of the user as whom it runs, so that its reports are checked.
 */
import { writeSync } from 'node:fs';
import { InitFlag, type InitFlagName } from '../../fuse/init.ts';
import { E2BIG, EPROTO, ErrnoError, must } from '../../sys/errno.ts';
import { native } from '../../sys/native.ts';

/** Comes first. Descriptors: the directories of objects. */
export interface Begin {
  readonly kind: 'begin';
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
/** The length of a line in a report. */
export const LINE_MAX = 4096;

/** Sends a message with descriptors, which stay open here. Throws an error if the other process is gone or does not read. */
export function send(channel: number, message: object, fds: readonly number[] = []): void {
  const bytes = Buffer.from(JSON.stringify(message));
  if (bytes.length > MESSAGE_BYTES) throw new ErrnoError(E2BIG, `a message of ${bytes.length} bytes`);
  if (fds.length === 0)
    writeSync(channel, bytes); // which a confined process may do
  else must(native.sendMessage(channel, bytes, Int32Array.from(fds)), 'a message between processes of the service');
}

/**
 * Receives an order of the broker, with its descriptors; undefined at the end. Throws ErrnoError, EAGAIN if there is none.
 */
export function receiveOrder(channel: number): { readonly order: Order; readonly fds: readonly number[] } | undefined {
  const received = receiveWithDescriptors(channel);
  return received && { order: JSON.parse(received.text), fds: received.fds };
}

/** Receives a message with its descriptors; undefined at the end. Throws ErrnoError, EAGAIN if there is none. */
export function receiveWithDescriptors(
  channel: number,
): { readonly text: string; readonly fds: readonly number[] } | undefined {
  const places = new Int32Array(DESCRIPTORS_MAX);
  const text = receive(channel, places);
  return text === undefined ? undefined : { text, fds: [...places].filter(fd => fd >= 0) };
}

/**
 * Receives a report of a server; undefined at the end. Descriptors are not taken.
 * Throws ErrnoError: EAGAIN if there is none; EPROTO if it is no report.
 */
export function receiveReport(channel: number): ServerReport | undefined {
  return receiveChecked(channel, isReport);
}

/** Receives a message that has to be of a type, as `receiveReport` does. */
export function receiveChecked<T>(channel: number, isOfType: (value: unknown) => value is T): T | undefined {
  const text = receive(channel, new Int32Array(0));
  if (text === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    if (isOfType(value)) return value;
  } catch {}
  throw new ErrnoError(EPROTO, 'a process of the service has sent something other than a report');
}

function receive(channel: number, places: Int32Array): string | undefined {
  const bytes = Buffer.alloc(MESSAGE_BYTES);
  const length = must(native.receiveMessage(channel, bytes, places, 0), 'a message between processes of the service');
  return length === 0 ? undefined : bytes.toString('utf8', 0, length);
}

export const isNumber = (value: unknown): boolean => Number.isSafeInteger(value);
export const isLine = (value: unknown): boolean => typeof value === 'string' && value.length <= LINE_MAX;

/** Whether a value has the fields of a report, with their types. */
function isReport(value: unknown): value is ServerReport {
  if (typeof value !== 'object' || value === null) return false;
  const report = value as Partial<Record<string, unknown>>;
  switch (report.kind) {
    case 'begun':
      return isLine(report.confinement);
    case 'log':
      return isLine(report.line);
    case 'ended':
      return isNumber(report.id) && isLine(report.how) && isNumber(report.errno);
    case 'ready':
      return isNumber(report.id) && /^[0-9a-f]{64,128}$/.test(String(report.digest)) && isConnection(report.connection);
    default:
      return false;
  }
}

function isConnection(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const { minor, flags } = value as Partial<Record<string, unknown>>;
  return isNumber(minor) && Array.isArray(flags) && flags.every(flag => Object.hasOwn(InitFlag, String(flag)));
}
