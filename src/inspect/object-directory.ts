/** A base directory, which is searched for objects by the rules of data-only layers: nothing outside of it counts. */
import { DirLayer } from '../layers/dir.ts';
import { type ByteString, printable } from '../sys/bytes.ts';
import { ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, ErrnoError, EXDEV, errnoText } from '../sys/errno.ts';

/** The errors that a mount gives for an object that is missing: no such file, or a path that leads out of the directory. */
const ABSENT = new Set([ENOENT, ENOTDIR, ENAMETOOLONG, ELOOP, EXDEV]);

export class ObjectDirectory {
  private readonly layer: DirLayer;

  /** Throws ErrnoError if the directory cannot be opened. */
  constructor(path: ByteString) {
    this.layer = new DirLayer(path);
  }

  /** Whether there is a regular file at a path. Throws ErrnoError, with the path, if that cannot be determined. */
  has(path: ByteString): boolean {
    const data = this.layer.openPath(path);
    if (typeof data !== 'number') {
      data.close();
      return true;
    }
    if (ABSENT.has(-data)) return false;
    throw new ErrnoError(-data, `${this.layer.path}/${printable(path)}: ${errnoText(data)}`);
  }

  close(): void {
    this.layer.close();
  }
}
