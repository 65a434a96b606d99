/**
 * Files by nodeid: all that are in use, and a bounded number of others. One that is used again need not be moved in an order, so
 * that an open and a close cost one search: when there are too many, the oldest that was not used since it was last passed over
 * goes first (the second-chance algorithm).
 */
import type { Nodeid } from '../fuse/filesystem.ts';

/** What is kept here, and what is known of it. Only this class changes the fields that it names. */
export interface Kept {
  readonly nodeid: Nodeid;
  /** The number of those who use it. */
  users: number;
  /** Whether it is kept until it is removed, although nobody uses it. */
  isPinned: boolean;
  /** Whether it was used since it was last passed over. */
  isRecent: boolean;
  /** Counted while the file is idle, in bytes; undefined while it is not. */
  idleBytes: number | undefined;
}

/** The state of a file that is not kept yet. */
export const UNKEPT: Readonly<Omit<Kept, 'nodeid'>> = {
  users: 0,
  isPinned: false,
  isRecent: false,
  idleBytes: undefined,
};

export class KeptFiles<File extends Kept> {
  /** The limits for idle files: their number, and their bytes. */
  readonly max: number;
  readonly maxSize: number;
  private readonly files = new Map<Nodeid, File>();
  private readonly dispose: (file: File) => void;
  private idle = 0;
  private idleBytes = 0;

  /** @param dispose called for each file that is no longer kept, once */
  constructor(max: number, maxSize: number, dispose: (file: File) => void) {
    this.max = max;
    this.maxSize = maxSize;
    this.dispose = dispose;
  }

  /** The number of idle files. `calculatedSize` is that of their bytes. */
  get size(): number {
    return this.idle;
  }

  get calculatedSize(): number {
    return this.idleBytes;
  }

  get(nodeid: Nodeid): File | undefined {
    const file = this.files.get(nodeid);
    if (file) file.isRecent = true;
    return file;
  }

  /** The same, but it does not count as a use. */
  peek(nodeid: Nodeid): File | undefined {
    return this.files.get(nodeid);
  }

  /** Adds a user; the file is kept from now on. */
  use(file: File): void {
    if (file.users++ > 0) return;
    this.endIdle(file);
    if (this.files.get(file.nodeid) !== file) this.files.set(file.nodeid, file);
  }

  /** Ends one use. After the last one, the file becomes idle, or is disposed of if there is no room for it. */
  release(file: File, idleBytes: number): void {
    if (--file.users > 0 || file.isPinned) return;
    file.idleBytes = idleBytes;
    this.idle++;
    this.idleBytes += idleBytes;
    this.trim();
  }

  /** Ends one use by a user whom the file has failed. After the last one it is disposed of. */
  reject(file: File): void {
    if (--file.users === 0) this.remove(file);
  }

  /** Keeps a file that nobody uses, as an idle one, or pinned if it is too large for that. */
  keep(file: File, idleBytes: number): void {
    this.use(file);
    if (idleBytes > this.maxSize) file.isPinned = true;
    this.release(file, idleBytes);
  }

  /** Disposes of a file without users, whether it is kept or not. */
  remove(file: File): void {
    this.endIdle(file);
    if (this.files.get(file.nodeid) === file) this.files.delete(file.nodeid);
    this.dispose(file);
  }

  /** Disposes of all idle files but the newest, which may be about to be used. */
  removeIdle(): void {
    const idle = [...this.files.values()].filter(file => file.idleBytes !== undefined);
    for (const file of idle.slice(0, -1)) this.remove(file);
  }

  /** Disposes of everything, in use or not. */
  close(): void {
    for (const file of this.files.values()) this.dispose(file);
    this.files.clear();
    this.idle = this.idleBytes = 0;
  }

  private endIdle(file: File): void {
    if (file.idleBytes === undefined) return;
    this.idle--;
    this.idleBytes -= file.idleBytes;
    file.idleBytes = undefined;
  }

  /** Passes over the files from the oldest on; those that stay become the newest. */
  private trim(): void {
    for (const file of this.files.values()) {
      if (this.idle <= this.max && this.idleBytes <= this.maxSize) return;
      if (file.idleBytes !== undefined && !file.isRecent) {
        this.remove(file);
        continue;
      }
      file.isRecent = false;
      this.files.delete(file.nodeid);
      this.files.set(file.nodeid, file);
    }
  }
}
