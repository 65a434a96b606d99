/** Data of files that an image itself holds. */
import { readData, seekData } from '../erofs/data.ts';
import type { ImageInode } from '../erofs/inode.ts';
import type { Image } from '../erofs/superblock.ts';
import { EINVAL, ENXIO } from '../sys/errno.ts';
import type { Data } from './layer.ts';

const SEEK_DATA = 3;
const SEEK_HOLE = 4;

/** The bytes of a regular file in an image. */
export class ImageData implements Data {
  readonly fd = -1;
  readonly version = '';
  readonly place: string;
  readonly sizeBytes: number;
  private readonly image: Image;
  private readonly inode: ImageInode;

  constructor(image: Image, inode: ImageInode, place: string) {
    this.image = image;
    this.inode = inode;
    this.place = place;
    this.sizeBytes = inode.sizeBytes;
  }

  read(out: Uint8Array, at: number, length: number, position: number): number {
    return readData(this.image, this.inode, out, at, Math.min(length, out.length - at), position);
  }

  seek(offset: number, whence: number): number {
    if (offset < 0 || offset >= this.sizeBytes) return -ENXIO;
    if (whence !== SEEK_DATA && whence !== SEEK_HOLE) return -EINVAL;
    const found = seekData(this.image, this.inode, offset, whence === SEEK_HOLE);
    return whence === SEEK_DATA && found === this.sizeBytes ? -ENXIO : found;
  }

  close(): void {}
}
