/** Open directories: the handle that the kernel holds, and the listing made at its first read. */
import type { Entry } from '../overlay/readdir.ts';

export interface OpenDirectory {
  entries: Entry[] | undefined;
}

export class Directories {
  private readonly open = new Map<number, OpenDirectory>();
  private next = 1;

  add(): number {
    const handle = this.next++;
    this.open.set(handle, { entries: undefined });
    return handle;
  }

  get(handle: number): OpenDirectory | undefined {
    return this.open.get(handle);
  }

  release(handle: number): void {
    this.open.delete(handle);
  }
}
