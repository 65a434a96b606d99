/** A base directory, asked for objects as a data-only layer is: nothing outside of it counts. */
import { DirLayer } from '../layers/dir.ts';
import { type ByteString, printable } from '../sys/bytes.ts';
import { ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, ErrnoError, EXDEV, errnoName } from '../sys/errno.ts';

/** What a mount says of an object that is not there: no such file, or a path that leads out of the directory. */
const ABSENT = new Set([ENOENT, ENOTDIR, ENAMETOOLONG, ELOOP, EXDEV]);

export class ObjectDirectory {
  private readonly layer: DirLayer;

  /** Throws ErrnoError where the directory cannot be opened. */
  constructor(path: ByteString) {
    this.layer = new DirLayer(path);
  }

  /** Whether there is a regular file at a path. Throws ErrnoError, with the path, where that cannot be told. */
  has(path: ByteString): boolean {
    const data = this.layer.openPath(path);
    if (typeof data !== 'number') {
      data.close();
      return true;
    }
    if (ABSENT.has(-data)) return false;
    throw new ErrnoError(-data, `${this.layer.path}/${printable(path)}: ${errnoName(data)}`);
  }

  close(): void {
    this.layer.close();
  }
}
