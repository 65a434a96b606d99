/**
 * Cuts what arrives on a stream socket into messages, each with its descriptors.
 *
 * A sender passes the descriptors of a message with its first byte. The kernel reports descriptors with all the bytes of one
 * recvmsg(2), which may begin before those that were sent with them; it ends with them, however. So descriptors belong to the last
 * message that begins in these bytes. A sender that writes a message, its descriptors and the next message in one sendmsg(2)
 * means another message, and nothing tells here: therefore a message that begins before, in the same bytes, may name none.
 * Source: linux/net/unix/af_unix.c, unix_stream_read_generic; unix(7), SCM_RIGHTS.
 */
import { EAGAIN, EINTR, EPROTO, ErrnoError, must } from '../../sys/errno.ts';
import { native } from '../../sys/native.ts';
import type { Keeper } from './descriptors.ts';

export interface Message {
  /** Without the NUL at its end. */
  readonly bytes: Uint8Array;
  readonly fds: readonly number[];
  /** Whether it has no descriptors although some came with its bytes: it may name none. */
  readonly isAmbiguous: boolean;
}

const READ_BYTES = 64 * 1024;
/** What a connection has for a message from its first one on. */
const LEAST_BYTES = 1024;
/** Of all connections, which are read one after the other. */
const room = Buffer.alloc(READ_BYTES);

export class Incoming {
  /** How many messages have begun. */
  count = 0;
  private readonly fd: number;
  private readonly bytesMax: number;
  private readonly fdsMax: number;
  private readonly keeper: Keeper;
  private readonly places: Int32Array;
  private readonly whole: Message[] = [];
  /** The message that has not ended: its first `length` bytes, and its descriptors. */
  private half = Buffer.alloc(0);
  private length = 0;
  private fds: readonly number[] = [];

  /**
   * @param bytesMax of a message
   * @param fdsMax of a message
   * @param keeper of its descriptors
   */
  constructor(fd: number, bytesMax: number, fdsMax: number, keeper: Keeper) {
    this.keeper = keeper;
    this.fd = fd;
    this.bytesMax = bytesMax;
    this.fdsMax = fdsMax;
    this.places = new Int32Array(fdsMax + 1); // one more, which shows that there were too many
  }

  /** Whether a message has begun, and not ended. */
  get isHalf(): boolean {
    return this.length > 0;
  }

  /** Whether there is a message. */
  get isReady(): boolean {
    return this.whole.length > 0;
  }

  /** The next message, whose descriptors the caller then owns. */
  next(): Message | undefined {
    return this.whole.shift();
  }

  /**
   * Reads once.
   * @returns 'nothing' if there is nothing to read now, 'end' at the end of the stream
   * Throws ErrnoError: EPROTO if the sender breaks the rules.
   */
  read(): 'some' | 'nothing' | 'end' {
    const length = native.receiveMessage(this.fd, room, this.places, 0);
    if (length === -EAGAIN || length === -EINTR) return 'nothing';
    if (must(length, 'a connection') === 0) return 'end';
    const fds = [...this.places].filter(fd => fd >= 0);
    this.keeper.came(fds.length);
    try {
      const begun = this.split(room.subarray(0, length));
      if (fds.length > 0) this.assign(fds, begun);
    } catch (error) {
      for (const fd of fds) this.keeper.close(fd);
      throw error;
    }
    return 'some';
  }

  /** Closes the descriptors of messages that nobody took. */
  close(): void {
    const fds = [...this.whole.splice(0).flatMap(({ fds }) => fds), ...this.fds];
    for (const fd of fds) this.keeper.close(fd);
    this.fds = [];
    this.length = 0;
  }

  /** @returns how many messages begin in the bytes */
  private split(bytes: Buffer): number {
    const before = this.count;
    for (let at = 0; at < bytes.length; ) {
      const end = bytes.indexOf(0, at);
      this.append(bytes.subarray(at, end < 0 ? bytes.length : end));
      if (end < 0) break;
      this.whole.push({ bytes: Buffer.from(this.half.subarray(0, this.length)), fds: this.fds, isAmbiguous: false });
      this.length = 0;
      this.fds = [];
      at = end + 1;
    }
    return this.count - before;
  }

  private append(piece: Buffer): void {
    if (this.length === 0) this.count++;
    const length = this.length + piece.length;
    if (length === 0) throw new ErrnoError(EPROTO, 'a message is empty');
    if (length > this.bytesMax) throw new ErrnoError(EPROTO, `a message has more than ${this.bytesMax} bytes`);
    if (length > this.half.length) {
      const larger = Buffer.alloc(Math.min(Math.max(2 * length, LEAST_BYTES), this.bytesMax));
      this.half.copy(larger, 0, 0, this.length);
      this.half = larger;
    }
    piece.copy(this.half, this.length);
    this.length = length;
  }

  private assign(fds: readonly number[], begun: number): void {
    if (begun === 0) throw new ErrnoError(EPROTO, 'descriptors came inside a message');
    if (fds.length > this.fdsMax) throw new ErrnoError(EPROTO, `a message has more than ${this.fdsMax} descriptors`);
    const last = this.isHalf ? undefined : this.whole.pop();
    for (let i = this.whole.length - (begun - 1); i < this.whole.length; i++)
      this.whole[i] = { ...(this.whole[i] as Message), isAmbiguous: true };
    if (last) this.whole.push({ ...last, fds });
    else this.fds = fds;
  }
}
