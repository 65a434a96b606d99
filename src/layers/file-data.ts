/** The bytes of an open file of the host. */
import { must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { statx, statxSize, statxVersion } from '../sys/statx.ts';
import type { Data } from './layer.ts';

export class FileData implements Data {
  readonly fd: number;

  /** Takes over an open descriptor of a regular file. */
  constructor(fd: number) {
    this.fd = fd;
  }

  get sizeBytes(): number {
    must(statx(this.fd, ''), 'stat of an open file');
    return statxSize();
  }

  get version(): string {
    must(statx(this.fd, ''), 'stat of an open file');
    return statxVersion();
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
