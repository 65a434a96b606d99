/** Turns the bytes of requests into the bytes of replies. Does no I/O. */

import { bufferOf, byteStringOf, getU64 } from '../sys/bytes.ts';
import { EINVAL, EIO, ENOSYS, EPROTO, ErrnoError, ESTALE, errnoName } from '../sys/errno.ts';
import type { Filesystem, Nodeid, Unique } from './filesystem.ts';
import { DEFERRED, ROOT } from './filesystem.ts';
import type { InitResult, Wanted } from './init.ts';
import { negotiate, READ_BYTES_MAX } from './init.ts';
import { operations } from './ops.ts';
import type { Out } from './reply.ts';
import type { Operation, Request } from './request.ts';
import { RequestCounts } from './request-counts.ts';
import { InHeader, InitOut, MIN_READ_BUFFER, OutHeader } from './wire/abi.ts';
import { Opcode, opcodeName } from './wire/opcode.ts';

/** Receives every request before it is handled, and every reply afterwards. */
export interface Tracer {
  request(view: DataView, length: number): void;
  /** @param length size of header and body, in bytes */
  reply(reply: Reply, length: number, opcode: number): void;
}

export interface DispatcherOptions {
  readonly wanted: Wanted;
  /** Gets one line for each request that is malformed or whose method throws. */
  readonly log: (line: string) => void;
  readonly tracer?: Tracer | undefined;
  /** Room for replies, which the dispatchers of one thread may share. */
  readonly buffers?: ReplyBuffers | undefined;
  /** Called once, when replies have had BUSY_BYTES in all, those of READ not counted. */
  readonly onBusy?: (() => void) | undefined;
}

/** Room for a reply, and for a deferred one, of any size. */
export class ReplyBuffers {
  readonly reply = new Uint8Array(REPLY_BYTES);
  readonly deferredReply = new Uint8Array(REPLY_BYTES);
}

/**
 * The replies for two thousand names. Answering so much takes about as long as V8 takes to optimize what a walk goes through; on
 * a busy machine both take longer.
 */
export const BUSY_BYTES = 350_000;

/**
 * Size of a request buffer. A larger one would get longer BATCH_FORGETs, of which the kernel sends up to 16 in a row before a
 * request that somebody waits for.
 */
export const REQUEST_BYTES = MIN_READ_BUFFER;
const REPLY_BYTES = OutHeader.SIZE + READ_BYTES_MAX;
/** The kernel accepts -1 to -511 as an error. */
const ERRNO_MAX = 511;
/** Bytes of the oldest kernels' INIT body: major, minor, max_readahead and flags. */
const INIT_BODY_MIN = 16;

type Writable<T> = { -readonly [K in keyof T]: T[K] };
const nothing = new Uint8Array(0);

/** A reply under construction: its header, and the body that a method writes. Both may be anywhere in memory. */
export class Reply {
  readonly header: Out;
  readonly body: Out;

  /**
   * @param header OutHeader.SIZE bytes
   * @param body room for any reply
   */
  constructor(header: Uint8Array, body: Uint8Array) {
    this.header = outOf(header);
    this.body = outOf(body);
  }

  /** Writes the header for a result, except the request's number. Returns the size of the reply. */
  seal(result: number): number {
    const isErrno = result < 0 && result >= -ERRNO_MAX;
    const isBody = result >= 0 && result <= this.body.bytes.length;
    const length = OutHeader.SIZE + (isBody ? result : 0);
    const { view } = this.header;
    view.setUint32(OutHeader.len, length, true);
    view.setInt32(OutHeader.error, isBody ? 0 : isErrno ? result : -EIO, true);
    return length;
  }
}

const outOf = (bytes: Uint8Array): Out => ({
  bytes,
  view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length),
});

/** A reply whose body follows its header. */
const replyIn = (bytes: Uint8Array): Reply =>
  new Reply(bytes.subarray(0, OutHeader.SIZE), bytes.subarray(OutHeader.SIZE));

/** A deferred request, as far as its answer needs it. */
interface Waiting {
  readonly opcode: number;
  readonly nodeid: Nodeid;
  /** Arrival time, by performance.now. */
  readonly since: number;
}

/** Answers the requests of one session, one at a time. Deferred requests are answered as soon as the filesystem can. */
export class Dispatcher {
  /** Holds the reply after `handle`. `deferredReply` holds the reply after `late`. */
  readonly reply: Uint8Array;
  readonly deferredReply: Uint8Array;
  /** Counts every request that had a header. */
  readonly counts = new RequestCounts();
  /** The result of INIT; undefined before it, and in a dispatcher whose session did not receive it. */
  connection: InitResult | undefined;

  /** What is left of BUSY_BYTES; 0 or less once onBusy was called. */
  private bytesUntilBusy = BUSY_BYTES;
  private readonly filesystem: Filesystem;
  private readonly options: DispatcherOptions;
  private readonly now: Reply;
  private readonly deferred: Reply;
  private readonly waiting = new Map<Unique, Waiting>();
  private readonly request: Writable<Request> = {
    bytes: nothing,
    view: new DataView(nothing.buffer),
    end: 0,
    nodeid: ROOT,
  };

  constructor(filesystem: Filesystem, options: DispatcherOptions) {
    this.filesystem = filesystem;
    this.options = options;
    const { reply, deferredReply } = options.buffers ?? new ReplyBuffers();
    this.reply = reply;
    this.deferredReply = deferredReply;
    this.now = replyIn(this.reply);
    this.deferred = replyIn(this.deferredReply);
  }

  /**
   * Answers the request in the first `length` bytes of `request`. It never throws and never reads past them, even if they are
   * malformed. It is fastest if the same buffer is passed every time.
   * @param into where the reply is written; `reply` if not given
   * @param since arrival time, by performance.now. A caller that has just read the clock saves 36 of the 78 ns for counting.
   * @returns the number of bytes of the reply to send; 0 if there is none, or none yet
   */
  handle(request: Uint8Array, length: number, into: Reply = this.now, since: number = performance.now()): number {
    if (request !== this.request.bytes) this.bind(request);
    if (length < InHeader.SIZE || length > request.length) {
      this.options.log(`a request of ${length} bytes has no header`);
      return 0;
    }
    const { view } = this.request;
    const opcode = view.getUint32(InHeader.opcode, true);
    const { tracer } = this.options;
    tracer?.request(view, length);
    const operation = operations.get(opcode);
    const result = this.answer(opcode, operation, length, into.body);
    if (result === DEFERRED) {
      const unique = byteStringOf(request, InHeader.unique, InHeader.unique + 8) as Unique;
      this.waiting.set(unique, { opcode, nodeid: this.request.nodeid, since });
      return 0;
    }
    this.counts.answered(opcode, result, performance.now() - since);
    if (operation?.replies === false) return 0;
    const header = into.header.bytes;
    for (let i = 0; i < 8; i++) header[OutHeader.unique + i] = request[InHeader.unique + i] as number;
    const replyLength = into.seal(result);
    if (this.bytesUntilBusy > 0 && opcode !== Opcode.READ) this.countBytes(replyLength);
    tracer?.reply(into, replyLength, opcode);
    return replyLength;
  }

  private countBytes(replyLength: number): void {
    this.bytesUntilBusy -= replyLength;
    if (this.bytesUntilBusy <= 0) this.options.onBusy?.();
  }

  /**
   * Answers one deferred request, if its answer is ready. It does not throw.
   * @returns the number of bytes of `deferredReply` to send; 0 if there are none
   */
  late(): number {
    const settled = this.filesystem.settled?.();
    if (settled === undefined) return 0;
    const { unique } = settled;
    const { opcode, nodeid, since } = this.waiting.get(unique) as Waiting;
    this.waiting.delete(unique);
    let result: number;
    try {
      result = settled.answer(this.deferred.body);
    } catch (error) {
      result = this.refuse(opcode, nodeid, error);
    }
    this.counts.answered(opcode, result, performance.now() - since);
    this.deferredReply.set(bufferOf(unique), OutHeader.unique);
    const replyLength = this.deferred.seal(result);
    this.options.tracer?.reply(this.deferred, replyLength, opcode);
    return replyLength;
  }

  /** Takes the result of INIT, which another process may have answered. */
  resume(connection: InitResult): void {
    this.connection = connection;
    this.filesystem.init?.(connection);
  }

  /** Turns the reply to the last request into EIO, for a reply that the kernel refused. Returns its size. */
  fail(): number {
    return this.now.seal(-EIO);
  }

  /** Whether requests have been deferred. */
  get isAwaited(): boolean {
    return this.waiting.size > 0;
  }

  /** Tells the filesystem that the connection has ended. */
  end(): void {
    this.filesystem.destroy();
  }

  private bind(bytes: Uint8Array): void {
    this.request.bytes = bytes;
    this.request.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  /** Returns the number of bytes of the body, -errno, or DEFERRED. */
  private answer(opcode: number, operation: Operation | undefined, length: number, out: Out): number {
    try {
      return this.run(opcode, operation, length, out);
    } catch (error) {
      return this.refuse(opcode, this.request.nodeid, error);
    }
  }

  /** Logs an exception once and returns its -errno. ESTALE makes the kernel look up again, so it is not logged. */
  private refuse(opcode: number, nodeid: Nodeid, error: unknown): number {
    if (error instanceof ErrnoError && error.errno === ESTALE) return -ESTALE;
    this.options.log(describe(opcode, nodeid, error));
    return error instanceof ErrnoError ? -error.errno : -EIO;
  }

  private run(opcode: number, operation: Operation | undefined, length: number, out: Out): number {
    const { request } = this;
    const { view } = request;
    request.nodeid = getU64(view, InHeader.nodeid) as Nodeid;
    const claimed = view.getUint32(InHeader.len, true);
    if (claimed !== length) throw new ErrnoError(EPROTO, `${length} bytes came, the header says ${claimed}`);
    // Before 7.38 these two bytes were zero padding.
    request.end = length - 8 * view.getUint16(InHeader.total_extlen, true);

    const bodyBytes = request.end - InHeader.SIZE;
    const bodyBytesMin = opcode === Opcode.INIT ? INIT_BODY_MIN : (operation?.bodyBytesMin ?? 0);
    if (bodyBytes < bodyBytesMin) throw new ErrnoError(EINVAL, `a body of ${bodyBytes} bytes, not ${bodyBytesMin}`);
    if (opcode === Opcode.INIT) return this.init(bodyBytes, out);
    return operation ? operation.run(this.filesystem, request, out) : -ENOSYS;
  }

  private init(bodyBytes: number, out: Out): number {
    const { bytes } = this.request;
    const body = new DataView(bytes.buffer, bytes.byteOffset + InHeader.SIZE, bodyBytes);
    const connection = negotiate(body, out.view, this.options.wanted);
    if (connection) this.resume(connection);
    return InitOut.SIZE;
  }
}

function describe(opcode: number, nodeid: Nodeid, error: unknown): string {
  const what = error instanceof Error ? error.message : String(error);
  const name =
    error instanceof ErrnoError ? errnoName(error.errno) : `EIO: ${error instanceof Error ? error.name : 'thrown'}`;
  return `${opcodeName(opcode)} nodeid ${nodeid}: ${name}: ${what}`;
}
