/** Keeps descriptors of directories open: a bounded number for all layers of a stack, those that were used last. */
import { LRUCache } from 'lru-cache';
import { CacheCounts } from '../sys/counters.ts';
import { native } from '../sys/native.ts';
import { openFilesMax } from '../sys/security/privileges.ts';

/**
 * The maximum number: an eighth of the process's limit on open files, between 64 and 1,024. Each descriptor keeps an inode in the
 * kernel's memory.
 */
export const descriptorsMax = (): number => Math.max(64, Math.min(1024, Math.floor(openFilesMax() / 8)));

/** The directory that a descriptor belongs to. */
export interface DescriptorOwner {
  readonly layer: object;
}

/** Descriptors (O_PATH) of directories below the roots of layers. They are closed when others need their place. */
export class Descriptors {
  readonly counts = new CacheCounts();
  private readonly open = new LRUCache<DescriptorOwner, number>({
    max: descriptorsMax(),
    dispose: fd => native.close(fd),
  });

  constructor() {
    this.counts.holds(this.open);
  }

  /** The descriptor of a directory; undefined if it is not open. It must be used before another one is added. */
  of(directory: DescriptorOwner): number | undefined {
    const fd = this.open.get(directory);
    this.counts.asked(fd !== undefined);
    return fd;
  }

  /** Takes over an open descriptor, and closes it when its place is needed. */
  add(directory: DescriptorOwner, fd: number): void {
    this.open.set(directory, fd);
    this.counts.holds(this.open);
  }

  /** Closes all descriptors of one layer. */
  closeOf(layer: object): void {
    for (const directory of [...this.open.keys()]) if (directory.layer === layer) this.open.delete(directory);
    this.counts.holds(this.open);
  }

  /** Closes all descriptors but the one that was requested last, which may be in use. */
  giveUp(): void {
    while (this.open.size > 1) this.open.pop();
    this.counts.holds(this.open);
  }
}
