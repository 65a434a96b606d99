/** Copies the data of large files on another thread, while this one answers other requests. */
import type { Unique } from '../../fuse/filesystem.ts';
import { FileData } from '../../layers/file-data.ts';
import type { Data } from '../../layers/layer.ts';
import { EINTR, EIO, ErrnoError } from '../../sys/errno.ts';
import type { Attr } from '../../sys/stat.ts';
import type { CopyPool } from '../../upper/copy-pool.ts';
import { copyUp, leaveDataBelow, ownsData } from '../../upper/copy-up.ts';
import type { UpperNode } from '../../upper/node.ts';
import type { Upper } from '../../upper/upper.ts';

/** Smaller files are copied in less time than another thread takes to wake. */
const LARGE_BYTES = 1 << 22;

/** A request that waits for the data of a node, and its answer, which throws if the copy failed. */
interface Waiter<T> {
  readonly unique: Unique;
  readonly answer: () => T;
}

export class LargeCopies<T> {
  private readonly upper: Upper;
  private readonly pool: CopyPool;
  private readonly copying = new Map<UpperNode, Waiter<T>[]>();
  private readonly ready: { unique: Unique; answer: () => T }[] = [];

  constructor(upper: Upper, pool: CopyPool) {
    this.upper = upper;
    this.pool = pool;
  }

  /**
   * Begins to give a node its own data, if that takes long, or joins the copy that is under way.
   * @param keepsData false if the caller will drop all data
   * @returns whether the request must wait for `settled`. Throws as copyUp does.
   */
  begin(node: UpperNode, keepsData: boolean, waiter: Waiter<T>): boolean {
    const waiters = this.copying.get(node);
    if (waiters) waiters.push(waiter);
    else if (!keepsData || !this.isLarge(node) || !this.start(node)) return false;
    else this.copying.set(node, [waiter]);
    return true;
  }

  /** Whether the data of a node is being copied, so that changes of its times must wait. */
  isCopying(node: UpperNode): boolean {
    return this.copying.has(node);
  }

  private isLarge(node: UpperNode): boolean {
    return !node.isComplete && this.upper.rules.metacopy && node.top.sizeBytes > LARGE_BYTES;
  }

  /** @returns false if the data is in an image, so that there is nothing to wait for */
  private start(node: UpperNode): boolean {
    const { upper } = this;
    copyUp(upper, node, 'attributes');
    if (node.isComplete) return false;
    const before = upper.overlay.attr(node);
    const data = upper.overlay.find(node);
    if (typeof data === 'number') throw upper.failure(-EIO, node, 'no data for the copy-up of');
    const to = data.fd < 0 ? -1 : upper.layer.openFile(node.top);
    if (to < 0) {
      data.close();
      return false;
    }
    this.copy(node, data, to, before).then(
      () => this.settle(node, undefined),
      (error: unknown) => this.settle(node, error),
    );
    return true;
  }

  /** Copies to the node's own inode, which is a metacopy until all bytes are there and checked. */
  private async copy(node: UpperNode, data: Data, to: number, before: Attr): Promise<void> {
    const { upper, pool } = this;
    const { sizeBytes } = node.top;
    const copied = new FileData(to, data.place, '(copied)');
    try {
      const check = upper.overlay.checkCopy(node, copied, data);
      const isSynced = !upper.rules.volatile;
      const work = { from: data.fd, place: data.place, to, sizeBytes, isSynced, algorithm: check?.algorithm };
      const { digest } = await pool.copy(work);
      if (digest) check?.learn({ digest, byKernel: false });
      ownsData(upper, node, before);
    } catch (error) {
      leaveDataBelow(to, before);
      throw error;
    } finally {
      copied.close();
      data.close();
    }
  }

  private settle(node: UpperNode, error: unknown): void {
    const waiters = this.copying.get(node) ?? [];
    this.copying.delete(node);
    const fail = (): never => {
      throw error;
    };
    for (const { unique, answer } of waiters) this.ready.push({ unique, answer: error === undefined ? answer : fail });
  }

  /** A request that can be answered now. */
  settled(): { unique: Unique; answer: () => T } | undefined {
    return this.ready.shift();
  }

  /** Fails a request with EINTR. The copy goes on: it will be wanted again. */
  interrupt(unique: Unique): void {
    const answer = (): never => {
      throw new ErrnoError(EINTR, 'interrupted while its data was copied');
    };
    for (const waiters of this.copying.values()) {
      const at = waiters.findIndex(waiter => waiter.unique === unique);
      if (at >= 0) this.ready.push({ unique: (waiters.splice(at, 1)[0] as Waiter<T>).unique, answer });
    }
  }
}
