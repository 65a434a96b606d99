/** The bytes of an open file of the host. */
import { must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { statx, statxHasVerity, statxSize, Version } from '../sys/statx.ts';
import type { Data, Look } from './layer.ts';

export class FileData implements Data {
  readonly fd: number;
  readonly place: string;
  private readonly known = new Version();
  private first: Look | undefined;

  /**
   * Takes over an open descriptor of a regular file. @param place names it in messages
   * @param isSeen the last answer of statx was about it: its first look costs no system call
   */
  constructor(fd: number, place: string, isSeen = false) {
    this.fd = fd;
    this.place = place;
    if (isSeen) this.first = this.seen();
  }

  get sizeBytes(): number {
    must(statx(this.fd, ''), 'stat of an open file');
    return statxSize();
  }

  get version(): string {
    must(statx(this.fd, ''), 'stat of an open file');
    return this.known.update();
  }

  look(): Look {
    const { first } = this;
    this.first = undefined;
    if (first) return first;
    must(statx(this.fd, ''), 'stat of an open file');
    return this.seen();
  }

  private seen(): Look {
    return { sizeBytes: statxSize(), version: this.known.update(), hasVerity: statxHasVerity() };
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
