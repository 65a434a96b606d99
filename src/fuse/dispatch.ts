/** Request bytes in, reply bytes out. No I/O. */

import { getU64 } from '../sys/bytes.ts';
import { EINVAL, EIO, ENOSYS, EPROTO, ErrnoError, errnoName } from '../sys/errno.ts';
import { InHeader, InitOut, MIN_READ_BUFFER, Opcode, OutHeader, opcodeName } from './abi.ts';
import type { Connection, Wanted } from './init.ts';
import { negotiate, READ_BYTES_MAX } from './init.ts';
import type { Filesystem, Nodeid, Request, Row } from './ops.ts';
import { ROOT, rows } from './ops.ts';
import type { Out } from './reply.ts';

/** Told of every request and of every reply, before and after it is worked on. */
export interface Tracer {
  request(view: DataView, length: number): void;
  reply(view: DataView, length: number, opcode: number): void;
}

export interface DispatcherOptions {
  readonly wanted: Wanted;
  /** Gets one line for each request that threw or was malformed. */
  readonly log: (line: string) => void;
  readonly tracer?: Tracer | undefined;
}

/** Room for a request: more than the kernel demands, so that one BATCH_FORGET carries thousands. */
export const REQUEST_BYTES = 8 * MIN_READ_BUFFER;
const REPLY_BYTES = OutHeader.SIZE + READ_BYTES_MAX;
/** The kernel takes -1 to -511 for an error. */
const ERRNO_MAX = 511;
/** Major, minor, max_readahead and flags: INIT as the oldest kernels sent it. */
const INIT_BODY_MIN = 16;

type Writable<T> = { -readonly [K in keyof T]: T[K] };
const nothing = new Uint8Array(0);

/** Answers the requests of one session, one at a time. */
export class Dispatcher {
  /** Holds the reply after `handle`. */
  readonly reply = new Uint8Array(REPLY_BYTES);
  /** What INIT agreed on; undefined before it, and in a dispatcher whose session did not get it. */
  connection: Connection | undefined;

  private readonly filesystem: Filesystem;
  private readonly options: DispatcherOptions;
  private readonly replyView = new DataView(this.reply.buffer);
  private readonly out: Out;
  private readonly request: Writable<Request> = {
    bytes: nothing,
    view: new DataView(nothing.buffer),
    end: 0,
    nodeid: ROOT,
  };

  constructor(filesystem: Filesystem, options: DispatcherOptions) {
    this.filesystem = filesystem;
    this.options = options;
    const bytes = this.reply.subarray(OutHeader.SIZE);
    this.out = { bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length) };
  }

  /**
   * Answers the request in the first `length` bytes of `request`. Whatever they are, it does not throw and reads nothing past
   * them. Fastest where the same buffer is handed in every time.
   * @returns how many bytes of `reply` are to be sent; 0: none
   */
  handle(request: Uint8Array, length: number): number {
    if (request !== this.request.bytes) this.bind(request);
    if (length < InHeader.SIZE || length > request.length) {
      this.options.log(`a request of ${length} bytes has no header`);
      return 0;
    }
    const { view } = this.request;
    const opcode = view.getUint32(InHeader.opcode, true);
    const { tracer } = this.options;
    tracer?.request(view, length);
    const row = rows.get(opcode);
    const result = this.answer(opcode, row, length);
    if (row?.replies === false) return 0;
    const replyLength = this.seal(result);
    tracer?.reply(this.replyView, replyLength, opcode);
    return replyLength;
  }

  /** Makes the reply of the last request an EIO, for one that the kernel did not take. Returns its size. */
  fail(): number {
    return this.seal(-EIO);
  }

  /** Tells the filesystem that the connection has ended. */
  end(): void {
    this.filesystem.destroy();
  }

  private bind(bytes: Uint8Array): void {
    this.request.bytes = bytes;
    this.request.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  /** The bytes of the body, or -errno. */
  private answer(opcode: number, row: Row | undefined, length: number): number {
    try {
      return this.run(opcode, row, length);
    } catch (error) {
      this.options.log(this.describe(opcode, error));
      return error instanceof ErrnoError ? -error.errno : -EIO;
    }
  }

  private run(opcode: number, row: Row | undefined, length: number): number {
    const { request } = this;
    const { view } = request;
    request.nodeid = getU64(view, InHeader.nodeid) as Nodeid;
    const claimed = view.getUint32(InHeader.len, true);
    if (claimed !== length) throw new ErrnoError(EPROTO, `${length} bytes came, the header says ${claimed}`);
    // Before 7.38 these two bytes were padding, and zero.
    request.end = length - 8 * view.getUint16(InHeader.total_extlen, true);

    const bodyBytes = request.end - InHeader.SIZE;
    const bodyBytesMin = opcode === Opcode.INIT ? INIT_BODY_MIN : (row?.bodyBytesMin ?? 0);
    if (bodyBytes < bodyBytesMin) throw new ErrnoError(EINVAL, `a body of ${bodyBytes} bytes, not ${bodyBytesMin}`);
    if (opcode === Opcode.INIT) return this.init(bodyBytes);
    return row ? row.run(this.filesystem, request, this.out) : -ENOSYS;
  }

  private init(bodyBytes: number): number {
    const { bytes } = this.request;
    const body = new DataView(bytes.buffer, bytes.byteOffset + InHeader.SIZE, bodyBytes);
    this.connection = negotiate(body, this.out.view, this.options.wanted);
    if (this.connection) this.filesystem.init?.(this.connection);
    return InitOut.SIZE;
  }

  /** Writes the header around a result. Returns the size of the reply. */
  private seal(result: number): number {
    const { replyView, reply } = this;
    const { bytes } = this.request;
    const isErrno = result < 0 && result >= -ERRNO_MAX;
    const isBody = result >= 0 && result <= this.out.bytes.length;
    const length = OutHeader.SIZE + (isBody ? result : 0);
    replyView.setUint32(OutHeader.len, length, true);
    replyView.setInt32(OutHeader.error, isBody ? 0 : isErrno ? result : -EIO, true);
    for (let i = 0; i < 8; i++) reply[OutHeader.unique + i] = bytes[InHeader.unique + i] as number;
    return length;
  }

  private describe(opcode: number, error: unknown): string {
    const what = error instanceof Error ? error.message : String(error);
    const name =
      error instanceof ErrnoError ? errnoName(error.errno) : `EIO: ${error instanceof Error ? error.name : 'thrown'}`;
    return `${opcodeName(opcode)} nodeid ${this.request.nodeid}: ${name}: ${what}`;
  }
}
