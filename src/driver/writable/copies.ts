/** Copies the data of large files on another thread, while this one answers other requests. */
import type { Unique } from '../../fuse/filesystem.ts';
import { FileData } from '../../layers/file-data.ts';
import type { Data } from '../../layers/layer.ts';
import { EINTR, EIO, ErrnoError, must } from '../../sys/errno.ts';
import { native } from '../../sys/native.ts';
import { isRegular } from '../../sys/stat.ts';
import type { CopyPool } from '../../upper/copy-pool.ts';
import { copyUp, leavesDataBelow, type Wants } from '../../upper/copy-up.ts';
import type { UpperNode } from '../../upper/node.ts';
import { TakenData } from '../../upper/taken-data.ts';
import type { Upper } from '../../upper/upper.ts';

/** Smaller files are copied in less time than another thread takes to wake. */
const LARGE_BYTES = 1 << 22;

/** A request that waits for the data of a node, and its answer, which throws if the copy failed. */
interface Waiter<T> {
  readonly unique: Unique;
  readonly answer: () => T;
}

/** What a copy is written to. */
interface Target {
  readonly fd: number;
  /** Makes the copy the node's data. */
  readonly done: () => void;
  /** Undoes the copy. */
  readonly failed: () => void;
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
   * Begins to give a node its own data, if a request needs that and it takes long, or joins the copy that is under way.
   * @param wants what the request needs
   * @returns whether the request must wait for `settled`. Throws as copyUp does.
   */
  begin(node: UpperNode, wants: Wants, waiter: Waiter<T>): boolean {
    const waiters = this.copying.get(node);
    if (waiters) waiters.push(waiter);
    else if (!this.needsLong(node, wants) || !this.start(node)) return false;
    else this.copying.set(node, [waiter]);
    return true;
  }

  private needsLong(node: UpperNode, wants: Wants): boolean {
    if (node.isComplete || wants === 'nothing' || !isRegular(node.top.mode)) return false;
    if (node.top.sizeBytes <= LARGE_BYTES) return false;
    return wants === 'data' || (!node.isUpper && !leavesDataBelow(this.upper, node));
  }

  /** @returns false if the data is in an image, so that there is nothing to wait for */
  private start(node: UpperNode): boolean {
    const { upper } = this;
    const isInPlace = node.isUpper || leavesDataBelow(upper, node);
    if (isInPlace) copyUp(upper, node, 'attributes');
    const data = upper.overlay.find(node);
    if (typeof data === 'number') throw upper.failure(-EIO, node, 'no data for the copy-up of');
    const target = data.fd < 0 ? undefined : isInPlace ? this.inPlace(node) : this.inWork(node);
    if (target === undefined) {
      data.close();
      return false;
    }
    this.copy(node, data, target).then(
      () => this.settle(node, undefined),
      (error: unknown) => this.settle(node, error),
    );
    return true;
  }

  /** The node's own inode, which is a metacopy until all bytes are there and checked. */
  private inPlace(node: UpperNode): Target | undefined {
    const { upper } = this;
    const taken = new TakenData(upper, node);
    const fd = upper.layer.openFile(node.top);
    return fd < 0 ? undefined : { fd, done: () => taken.done(), failed: () => taken.failed(fd) };
  }

  /** A file in the work directory, where no metacopy is possible. */
  private inWork(node: UpperNode): Target {
    const { upper } = this;
    const { work } = upper;
    const name = work.name();
    const fd = work.makeFile(name, upper.ownMode(node.top.mode));
    if (fd < 0) throw upper.failure(fd, node, 'copy-up of');
    const failed = (): void => work.remove(name);
    const done = (): void => {
      if (node.isUpper || node.place === undefined) {
        failed(); // it was copied, or removed, meanwhile
        return;
      }
      copyUp(upper, node.place.parent, 'attributes');
      copyUp(upper, node, 'data', { name, fd: must(native.duplicate(fd, 0), 'dup') });
    };
    return { fd, done, failed };
  }

  /** Copies and checks. Closes the data and the target's descriptor. */
  private async copy(node: UpperNode, data: Data, { fd, done, failed }: Target): Promise<void> {
    const { upper, pool } = this;
    const { sizeBytes } = node.top;
    const copied = new FileData(fd, data.place, '(copied)');
    try {
      const check = upper.overlay.checkCopy(node, copied, data);
      const isSynced = !upper.rules.volatile;
      const work = { from: data.fd, place: data.place, to: fd, sizeBytes, isSynced, algorithm: check?.algorithm };
      const { digest } = await pool.copy(work);
      if (digest) check?.learn({ digest, byKernel: false });
      done();
    } catch (error) {
      failed();
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
