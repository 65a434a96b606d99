/** The bytes of an open file of the host. */
import { type ByteString, printable } from '../sys/bytes.ts';
import { must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { statx, statxHasVerity, statxIsSettled, statxSize, statxVersion } from '../sys/statx.ts';
import type { Data, Look } from './layer.ts';

export class FileData implements Data {
  readonly fd: number;
  private readonly layer: ByteString;
  private readonly shown: ByteString;
  private first: Look | undefined;

  /**
   * Takes over an open descriptor of a regular file.
   * @param layer names the file in messages, together with `shown`
   * @param isSeen whether the last statx was of this file: its first look then costs no system call
   */
  constructor(fd: number, layer: ByteString, shown: ByteString, isSeen = false) {
    this.fd = fd;
    this.layer = layer;
    this.shown = shown;
    if (isSeen) this.first = seen();
  }

  /** Computed on request, because that takes as long as opening a file. */
  get place(): string {
    return `layer ${this.layer}: ${printable(this.shown)}`;
  }

  get sizeBytes(): number {
    this.stat();
    return statxSize();
  }

  get version(): string {
    this.stat();
    return statxVersion();
  }

  look(): Look {
    const { first } = this;
    this.first = undefined;
    if (first) return first;
    this.stat();
    return seen();
  }

  private stat(): void {
    must(statx(this.fd, ''), 'stat of an open file');
  }

  read(out: Uint8Array, at: number, length: number, position: number): number {
    return native.pread(this.fd, out, at, length, position);
  }

  seek(offset: number, whence: number): number {
    return native.lseek(this.fd, offset, whence);
  }

  close(): void {
    native.close(this.fd);
  }
}

/** The state of a file from the last statx. */
function seen(): Look {
  return {
    sizeBytes: statxSize(),
    version: statxVersion(),
    hasVerity: statxHasVerity(),
    isSettled: statxIsSettled(),
  };
}
