/** A request as the operations read it: its header, names and callers. */
import { byteStringOf } from '../sys/bytes.ts';
import { EINVAL, ENAMETOOLONG } from '../sys/errno.ts';
import type { Caller, Filesystem, Nodeid, Unique } from './filesystem.ts';
import type { Out } from './reply.ts';
import { InHeader, NAME_MAX } from './wire/abi.ts';

/** A request whose header has been checked. */
export interface Request {
  /** The whole request, starting with its header. The bytes from `end` on do not belong to it. */
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly end: number;
  readonly nodeid: Nodeid;
}

/** How a request of one opcode is checked and answered. */
export interface Operation {
  /** Requests with a shorter body are refused before `run` is called. */
  readonly bodyBytesMin: number;
  /** False if the kernel expects no reply, not even an error. */
  readonly replies: boolean;
  /** Returns the bytes written to `out`, or -errno. */
  readonly run: RunOperation;
}
type RunOperation = (fs: Filesystem, request: Request, out: Out) => number;

/** The offset of a request's body. */
export const BODY = InHeader.SIZE;

/** The number of a request at an offset of its bytes. */
export const uniqueAt = ({ bytes }: Request, at: number): Unique => byteStringOf(bytes, at, at + 8) as Unique;

/** The process that made a request. */
export function callerOf({ view }: Request): Caller {
  return {
    uid: view.getUint32(InHeader.uid, true),
    gid: view.getUint32(InHeader.gid, true),
    pid: view.getUint32(InHeader.pid, true),
  };
}

const DOT = 0x2e;
const SLASH = 0x2f;

/**
 * Checks the name at the end of a request: it must end with a NUL and contain no other. A file's name must also be a single
 * component other than "." and "..". Returns 0 or a negative errno.
 */
export function checkName({ bytes, end }: Request, from: number, isFile: boolean): number {
  const length = end - from - 1;
  if (length < 1 || bytes[end - 1] !== 0) return -EINVAL;
  if (length > NAME_MAX) return -ENAMETOOLONG;
  for (let i = from; i < end - 1; i++) {
    const byte = bytes[i];
    if (byte === 0 || (isFile && byte === SLASH)) return -EINVAL;
  }
  return isFile && isDots(bytes, from, length) ? -EINVAL : 0;
}

/** Whether a name is "." or "..". */
export const isDots = (bytes: Uint8Array, from: number, length: number): boolean =>
  bytes[from] === DOT && (length === 1 || (length === 2 && bytes[from + 1] === DOT));

/** A row for an operation with a reply. */
export const operation = (bodyBytesMin: number, run: RunOperation): Operation => ({ bodyBytesMin, replies: true, run });
/** A row for one without. */
export const silentOperation = (bodyBytesMin: number, run: RunOperation): Operation => ({
  bodyBytesMin,
  replies: false,
  run,
});
