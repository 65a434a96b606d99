/** The bytes of an open file of the host. */
import { must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { statx, statxSize, Version } from '../sys/statx.ts';
import type { Data } from './layer.ts';

export class FileData implements Data {
  readonly fd: number;
  readonly place: string;
  private readonly known = new Version();

  /** Takes over an open descriptor of a regular file. @param place names it in messages */
  constructor(fd: number, place: string) {
    this.fd = fd;
    this.place = place;
  }

  get sizeBytes(): number {
    must(statx(this.fd, ''), 'stat of an open file');
    return statxSize();
  }

  get version(): string {
    must(statx(this.fd, ''), 'stat of an open file');
    return this.known.update();
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
