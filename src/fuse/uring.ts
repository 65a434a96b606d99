/**
 * FUSE over io_uring. Each CPU has a queue whose requests the kernel puts into memory of this process. One system call sends a
 * reply and waits for the next request. Requests without a reply, FORGET and INTERRUPT, still come over /dev/fuse.
 * Source: Linux Documentation/filesystems/fuse/fuse-io-uring.rst, include/uapi/linux/fuse.h (7.42).
 */
import { readFileSync } from 'node:fs';
import { byteStringOf, putU64 } from '../sys/bytes.ts';
import { ENOTCONN, EOPNOTSUPP, ErrnoError, errnoText } from '../sys/errno.ts';
import { sleeperOn } from '../sys/event-loop.ts';
import { IoUring } from '../sys/io-uring.ts';
import { mapMemory } from '../sys/memory.ts';
import { native } from '../sys/native.ts';
import { type Device, type End, type SessionOptions, TURN_MS } from './device.ts';
import { type Dispatcher, REQUEST_BYTES, Reply } from './dispatch.ts';
import type { Unique } from './filesystem.ts';
import { READ_BYTES_MAX } from './init.ts';
import { Pause } from './pause.ts';
import { InHeader, OutHeader, UringCommand, UringCommandRequest, UringHeader } from './wire/abi.ts';

/** The number of slots that each queue starts with. */
const DEPTH = 4;
/** The largest number of slots of a queue, reached only while answers are deferred. */
const DEPTH_MAX = 1024;
/** Entries of the submission ring. */
const RING_ENTRIES = 256;
/** Offsets in a slot's memory: the header at 0, then two iovecs, then the payload on pages of its own. */
const IOVECS = 512;
const PAYLOAD = 4096;
const IOVEC_BYTES = 16;

/** `userData` of the poll of /dev/fuse. All other values are indices of slots. */
const DEVICE = 0xffff_fffe;

/** Memory for one request at a time, and for its reply. */
class Slot {
  readonly queue: number;
  readonly reply: Reply;
  readonly header: DataView;
  readonly iovecs: number;
  readonly payload: Uint8Array;
  readonly headerBytes: Uint8Array;

  constructor(queue: number) {
    this.queue = queue;
    const memory = mapMemory(-1, 0, PAYLOAD + READ_BYTES_MAX);
    this.headerBytes = new Uint8Array(memory, 0, UringHeader.SIZE);
    this.header = new DataView(memory, 0, UringHeader.SIZE);
    this.payload = new Uint8Array(memory, PAYLOAD, READ_BYTES_MAX);
    this.reply = new Reply(new Uint8Array(memory, UringHeader.in_out, OutHeader.SIZE), this.payload);
    const iovecs = new DataView(memory, IOVECS, 2 * IOVEC_BYTES);
    this.iovecs = native.addressOf(new Uint8Array(memory, IOVECS));
    putU64(iovecs, 0, native.addressOf(this.headerBytes));
    putU64(iovecs, 8, UringHeader.SIZE);
    putU64(iovecs, IOVEC_BYTES, native.addressOf(this.payload));
    putU64(iovecs, IOVEC_BYTES + 8, READ_BYTES_MAX);
  }
}

/** Serves a connection whose INIT agreed on OVER_IO_URING, on the thread that made `ring`. */
export class UringSession {
  private readonly fd: number;
  private readonly ring: FuseRing;
  private readonly device: Device;
  private readonly dispatcher: Dispatcher;
  private readonly options: SessionOptions;
  private readonly slots: Slot[] = [];
  /** The number of deferred requests in each queue. `waiting` has the slot of each. */
  private readonly waitingIn: number[];
  private readonly waiting = new Map<Unique, number>();
  private readonly request = new Uint8Array(REQUEST_BYTES);
  private readonly pause: Pause;
  private end: End | undefined;

  constructor(fd: number, ring: FuseRing, device: Device, dispatcher: Dispatcher, options: SessionOptions) {
    this.fd = fd;
    this.ring = ring;
    this.device = device;
    this.dispatcher = dispatcher;
    this.options = options;
    this.waitingIn = new Array(ring.processors).fill(0);
    this.pause = new Pause(sleeperOn(ring.descriptor), options.latency);
    for (let queue = 0; queue < ring.processors; queue++) {
      for (let i = 0; i < DEPTH; i++) this.register(queue);
    }
    ring.poll(fd, DEVICE);
  }

  /**
   * Answers requests until none comes for a moment, or TURN_MS have passed.
   * @returns how the connection ended; undefined if it goes on
   * Throws ErrnoError if the connection cannot be served.
   */
  turn(): End | undefined {
    const { ring, pause } = this;
    this.replyDeferred();
    ring.submit();
    pause.rest();
    for (const until = performance.now() + TURN_MS; this.end === undefined; ) {
      ring.submit();
      if (ring.take()) {
        const now = pause.end();
        do this.complete(ring.userData >>> 0, ring.result);
        while (ring.take());
        if (now > until) break;
      } else if (!pause.again()) break;
    }
    return this.end;
  }

  private register(queue: number): void {
    const slot = new Slot(queue);
    const at = this.ring.command(this.fd, this.slots.length, UringCommand.REGISTER, slot.iovecs, 2);
    this.ring.submissions.setUint16(at + UringCommandRequest.qid, queue, true);
    this.slots.push(slot);
  }

  private complete(what: number, result: number): void {
    if (what === DEVICE) this.readDevice();
    else if (result === 0) this.serve(what);
    else if (result !== -ENOTCONN)
      this.options.log(`io_uring of FUSE, queue ${this.slots[what]?.queue}: ${errnoText(result)}`);
  }

  /** Answers the request that a slot holds. */
  private serve(index: number): void {
    const slot = this.slots[index] as Slot;
    const length = this.gather(slot);
    const replied = this.dispatcher.handle(this.request, length, slot.reply);
    if (replied > 0) this.commit(index, replied);
    else this.leave(index, slot);
  }

  /** Joins the parts of a request as /dev/fuse would have delivered them. @returns its length in bytes */
  private gather({ header, headerBytes, payload }: Slot): number {
    const { request } = this;
    const length = header.getUint32(UringHeader.in_out + InHeader.len, true);
    const payloadBytes = Math.min(header.getUint32(UringHeader.payload_sz, true), request.length - PAYLOAD);
    const structEnd = Math.min(Math.max(length - payloadBytes, InHeader.SIZE), InHeader.SIZE + UringHeader.OP_IN_BYTES);
    for (let i = 0; i < InHeader.SIZE; i++) request[i] = headerBytes[UringHeader.in_out + i] as number;
    for (let i = InHeader.SIZE; i < structEnd; i++) {
      request[i] = headerBytes[UringHeader.op_in + i - InHeader.SIZE] as number;
    }
    for (let i = 0; i < payloadBytes; i++) request[structEnd + i] = payload[i] as number;
    return structEnd + payloadBytes;
  }

  /** Queues the command that sends a slot's reply and fetches the next request into it. */
  private commit(index: number, replyBytes: number): void {
    const slot = this.slots[index] as Slot;
    const { header, queue } = slot;
    header.setUint32(UringHeader.payload_sz, replyBytes - OutHeader.SIZE, true);
    const at = this.ring.command(this.fd, index, UringCommand.COMMIT_AND_FETCH);
    const { submissions } = this.ring;
    for (let i = 0; i < 8; i += 4) {
      const half = header.getUint32(UringHeader.commit_id + i, true);
      submissions.setUint32(at + UringCommandRequest.commit_id + i, half, true);
    }
    submissions.setUint16(at + UringCommandRequest.qid, queue, true);
  }

  /** Keeps a slot whose answer comes later. A queue without a free slot would block its CPU's requests, so it gets another. */
  private leave(index: number, { queue }: Slot): void {
    const unique = byteStringOf(this.request, InHeader.unique, InHeader.unique + 8) as Unique;
    this.waiting.set(unique, index);
    const waiting = (this.waitingIn[queue] as number) + 1;
    this.waitingIn[queue] = waiting;
    const slots = this.slots.reduce((count, slot) => count + (slot.queue === queue ? 1 : 0), 0);
    if (waiting === slots && slots < DEPTH_MAX) this.register(queue);
  }

  private replyDeferred(): void {
    const { dispatcher } = this;
    for (let late = dispatcher.late(); late > 0; late = dispatcher.late()) {
      const { deferredReply } = dispatcher;
      const unique = byteStringOf(deferredReply, OutHeader.unique, OutHeader.unique + 8) as Unique;
      const index = this.waiting.get(unique) as number;
      const { reply, queue } = this.slots[index] as Slot;
      this.waiting.delete(unique);
      this.waitingIn[queue] = (this.waitingIn[queue] as number) - 1;
      reply.header.bytes.set(deferredReply.subarray(0, OutHeader.SIZE));
      reply.body.bytes.set(deferredReply.subarray(OutHeader.SIZE, late));
      this.commit(index, late);
    }
  }

  /** Answers requests from /dev/fuse, or records how the connection ended. */
  private readDevice(): void {
    this.end = this.device.drain();
    if (this.end === undefined) this.ring.poll(this.fd, DEVICE);
  }
}

/** The number of possible CPUs, online or not: the kernel waits for a queue of each. */
function possibleProcessors(): number {
  const ranges = readFileSync('/sys/devices/system/cpu/possible', 'latin1').trim().split(',');
  return ranges.reduce((count, range) => {
    const [first = 0, last = first] = range.split('-').map(Number);
    return count + last - first + 1;
  }, 0);
}

/** A ring, and system facts for its session, which may no longer read files once it serves. */
export class FuseRing extends IoUring {
  readonly processors = possibleProcessors();
}

/** Makes a ring for UringSession on this thread. Throws ErrnoError with the reason if FUSE over io_uring is unavailable. */
export function openRing(): FuseRing {
  const obstacle = uringObstacle();
  if (obstacle) throw new ErrnoError(EOPNOTSUPP, `FUSE over io_uring: ${obstacle}`);
  return new FuseRing(RING_ENTRIES);
}

/** The reason why the kernel does not offer FUSE over io_uring; undefined if none is known. */
export function uringObstacle(): string | undefined {
  try {
    const enabled = readFileSync('/sys/module/fuse/parameters/enable_uring', 'latin1');
    return /^[Y1]/.test(enabled) ? undefined : 'enable_uring of the module fuse is N';
  } catch {
    return 'not in this kernel';
  }
}
