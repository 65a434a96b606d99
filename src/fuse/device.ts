/** Serves the connection over /dev/fuse. */

import { putU64 } from '../sys/bytes.ts';
import type { CpuLatency } from '../sys/cpu-latency.ts';
import { EAGAIN, ECONNABORTED, EINTR, ENODEV, ENOENT, ErrnoError, errnoText, must } from '../sys/errno.ts';
import { sleeperOn } from '../sys/event-loop.ts';
import { native } from '../sys/native.ts';
import type { Dispatcher } from './dispatch.ts';
import { REQUEST_BYTES } from './dispatch.ts';
import type { Nodeid } from './filesystem.ts';
import type { InitResult } from './init.ts';
import { Pause } from './pause.ts';
import { Notify, NotifyInvalInodeOut, OutHeader } from './wire/abi.ts';

/** How a connection ended. After an abort, the mount stays and answers ENOTCONN. */
export type End = 'unmounted' | 'aborted';

/** A failed write makes `fuseReplyReceive` return this value minus the errno. */
const WRITE_FAILED = -4096;

export interface SessionOptions {
  /** Gets one line for each reply that the kernel refused. */
  readonly log: (line: string) => void;
  /** The size of the buffer for a request, if it must be larger than REQUEST_BYTES. */
  readonly requestBytes?: number | undefined;
  /** Keeps CPUs awake while requests follow each other closely. */
  readonly latency?: CpuLatency | undefined;
}

/** How long a thread answers constant requests before its event loop runs. */
export const TURN_MS = 4;

/** Reads requests from /dev/fuse and writes replies there, on the calling thread alone. */
export class Device {
  private readonly fd: number;
  private readonly dispatcher: Dispatcher;
  private readonly options: SessionOptions;
  private readonly request: Uint8Array;
  private readonly pause: Pause;

  /** @param fd /dev/fuse of a mount */
  constructor(fd: number, dispatcher: Dispatcher, options: SessionOptions) {
    this.fd = fd;
    this.dispatcher = dispatcher;
    this.options = options;
    this.request = new Uint8Array(options.requestBytes ?? REQUEST_BYTES);
    this.pause = new Pause(sleeperOn(fd), options.latency);
    must(native.setStatusFlags(fd, O_NONBLOCK), '/dev/fuse');
  }

  /** Answers INIT and nothing after it. @returns how the connection ended, if it ended before INIT */
  begin(): End | undefined {
    while (this.dispatcher.connection === undefined) {
      native.poll(Int32Array.of(this.fd), POLLIN, -1);
      const end = this.answer();
      if (end !== undefined && end !== 'idle') return end;
    }
    return undefined;
  }

  /** Goes on with a connection whose INIT another process has answered, which did not answer all that it had read. */
  resume(connection: InitResult): void {
    this.dispatcher.resume(connection);
    must(resendRequests(this.fd), '/dev/fuse');
  }

  /** Answers all pending requests and never sleeps. @returns how the connection ended; undefined if it goes on */
  drain(): End | undefined {
    for (;;) {
      const end = this.answer();
      if (end !== undefined) return end === 'idle' ? undefined : end;
    }
  }

  /** Answers one request. @returns 'idle' if there is none; how the connection ended, if it did */
  private answer(): End | 'idle' | undefined {
    const { fd, dispatcher, request } = this;
    const received = native.fuseReceive(fd, request);
    if (received === -EAGAIN) return 'idle';
    if (received <= 0) return endOf(-received);
    const replyBytes = dispatcher.handle(request, received);
    if (replyBytes > 0) this.onReplySent(native.fuseReply(fd, dispatcher.reply, replyBytes), replyBytes);
    return undefined;
  }

  /**
   * Answers requests until none comes for a moment, or TURN_MS have passed.
   * @returns how the connection ended; undefined if it goes on
   * Throws ErrnoError if the descriptor cannot be read.
   */
  turn(): End | undefined {
    const { pause } = this;
    this.replyDeferred();
    pause.rest();
    const until = performance.now() + TURN_MS;
    for (;;) {
      const end = this.answerUntil(until, this.arrived);
      if (end !== 'idle') return end;
      if (!pause.again()) return undefined;
    }
  }

  private readonly arrived = (): number => this.pause.end();

  /**
   * Answers requests without sleeping.
   * @param until the time of performance.now from which on others have their turn
   * @param arrived called for each request; returns the time
   * @returns 'idle' if there is no request; how the connection ended; undefined if the time is over
   * Throws ErrnoError if the descriptor cannot be read.
   */
  answerUntil(until: number, arrived: () => number): End | 'idle' | undefined {
    const { fd, dispatcher, request } = this;
    for (let replyBytes = 0; ; ) {
      const received =
        replyBytes > 0
          ? native.fuseReplyReceive(fd, dispatcher.reply, replyBytes, request)
          : native.fuseReceive(fd, request);
      if (received > 0) {
        const now = arrived();
        replyBytes = dispatcher.handle(request, received, undefined, now);
        if (now < until) continue;
        if (replyBytes > 0) this.onReplySent(native.fuseReply(fd, dispatcher.reply, replyBytes), replyBytes);
        return undefined;
      }
      if (received === -EAGAIN) return 'idle';
      if (received < WRITE_FAILED) this.onReplySent(received - WRITE_FAILED, replyBytes);
      else {
        const end = endOf(-received);
        if (end) return end;
      }
      replyBytes = 0;
    }
  }

  /** Sends the deferred replies that are ready. */
  replyDeferred(): void {
    const { fd, dispatcher, options } = this;
    for (let late = dispatcher.late(); late > 0; late = dispatcher.late()) {
      const sent = native.fuseReply(fd, dispatcher.deferredReply, late); // ENOENT: its caller is gone
      if (sent < 0 && sent !== -ENOENT) options.log(`a late reply of ${late} bytes was refused: ${errnoText(sent)}`);
    }
  }

  /** Handles the result of writing a reply. If the kernel refused it, the caller gets EIO, unless the request is gone. */
  private onReplySent(sent: number, replyBytes: number): void {
    if (sent >= 0 || sent === -ENOENT) return;
    this.options.log(`a reply of ${replyBytes} bytes was refused: ${errnoText(sent)}`);
    native.fuseReply(this.fd, this.dispatcher.reply, this.dispatcher.fail());
  }
}

/** The meaning of a failed read; undefined: read again. */
function endOf(errno: number): End | undefined {
  switch (errno) {
    case ENOENT: // the request was interrupted before it was read
    case EINTR:
      return undefined;
    case ENODEV:
      return 'unmounted';
    case ECONNABORTED:
      return 'aborted';
    default:
      throw new ErrnoError(errno, `reading /dev/fuse: ${errnoText(errno)}`);
  }
}

const O_NONBLOCK = 0o4000;
const POLLIN = 1;

/**
 * Has the kernel send again what was read from the connection and not answered.
 * @param fd /dev/fuse of the mount
 * @returns 0 or a negative errno
 */
function resendRequests(fd: number): number {
  const header = new Uint8Array(OutHeader.SIZE);
  const fields = new DataView(header.buffer);
  fields.setUint32(OutHeader.len, header.length, true);
  fields.setInt32(OutHeader.error, Notify.RESEND, true);
  return Math.min(native.fuseReply(fd, header, header.length), 0);
}

const message = new Uint8Array(OutHeader.SIZE + NotifyInvalInodeOut.SIZE);
const view = new DataView(message.buffer);

/**
 * Tells the kernel that its attributes of a node are out of date. It takes no lock, so it may be sent while a request of the node
 * waits. @param fd /dev/fuse of the mount
 * @returns 0 or a negative errno, -ENOENT if the kernel does not know the node
 */
export function attributesChanged(fd: number, nodeid: Nodeid): number {
  view.setUint32(OutHeader.len, message.length, true);
  view.setInt32(OutHeader.error, Notify.INVAL_INODE, true);
  putU64(view, OutHeader.unique, 0);
  putU64(view, OutHeader.SIZE + NotifyInvalInodeOut.ino, nodeid);
  putU64(view, OutHeader.SIZE + NotifyInvalInodeOut.off, -1);
  putU64(view, OutHeader.SIZE + NotifyInvalInodeOut.len, 0);
  return Math.min(native.fuseReply(fd, message, message.length), 0);
}
