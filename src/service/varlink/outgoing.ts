/** Messages that wait until the other end reads. */
import { EAGAIN, EINTR, must } from '../../sys/errno.ts';
import { native } from '../../sys/native.ts';

interface Waiting {
  bytes: Uint8Array;
  /** To be sent with the next byte, and closed. */
  fds: readonly number[];
  readonly onSent: (isSent: boolean) => void;
}

const NONE = new Int32Array(0);

export class Outgoing {
  private readonly fd: number;
  private readonly waiting: Waiting[] = [];

  constructor(fd: number) {
    this.fd = fd;
  }

  get isEmpty(): boolean {
    return this.waiting.length === 0;
  }

  /**
   * @param message its end is added
   * @param fds closed when they are sent, or cannot be
   * @param onSent called once
   */
  add(message: object, fds: readonly number[], onSent: (isSent: boolean) => void = () => {}): void {
    this.waiting.push({ bytes: Buffer.from(`${JSON.stringify(message)}\0`), fds: [...new Set(fds)], onSent });
  }

  /**
   * Sends what can be sent now. @returns how many messages were sent whole
   * Throws ErrnoError if the other end is gone.
   */
  flush(): number {
    for (let sent = 0; ; sent++) {
      const [first] = this.waiting;
      if (!first || !this.send(first)) return sent;
      this.waiting.shift();
      first.onSent(true);
    }
  }

  close(): void {
    for (const { fds, onSent } of this.waiting.splice(0)) {
      for (const fd of fds) native.close(fd);
      onSent(false);
    }
  }

  /** @returns whether the message has gone */
  private send(message: Waiting): boolean {
    while (message.bytes.length > 0) {
      const { bytes, fds } = message;
      const length = native.sendMessage(this.fd, bytes, fds.length > 0 ? Int32Array.from(fds) : NONE);
      if (length === -EINTR) continue;
      if (length === -EAGAIN) return false;
      must(length, 'a connection');
      for (const fd of fds) native.close(fd);
      message.fds = [];
      message.bytes = bytes.subarray(length);
    }
    return true;
  }
}
