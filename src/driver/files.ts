/** Open regular files: one set of data and one backing id for each, however often it is opened. */
import { LRUCache } from 'lru-cache';
import { Fopen } from '../fuse/abi.ts';
import { DEFERRED, type Nodeid, type Unique } from '../fuse/ops.ts';
import type { Data } from '../layers/layer.ts';
import type { Node } from '../overlay/node.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { type Check, lookAt, type Measured } from '../overlay/verifier.ts';
import { CacheCounts, count, newCounters } from '../sys/counters.ts';
import { spareDescriptors } from '../sys/descriptors.ts';
import { EINTR, ErrnoError } from '../sys/errno.ts';
import { FileCount } from './activity.ts';
import type { Backing } from './backing.ts';
import type { Measurer, Result } from './measurer.ts';

/** A file that is open, or was and may be again. */
interface File {
  readonly nodeid: Nodeid;
  readonly node: Node;
  readonly data: Data;
  /** What READ is answered from: the data, or the data with a check of each block. */
  reads: Data;
  /** 0 where reads come to us. */
  backingId: number;
  /** Whether there is nothing to check. */
  unchecked: boolean;
  /** The version of the data that was found to be what it must be, where a change from then on shows. */
  passed: string | undefined;
  /** The version that the kernel may have pages of; undefined before there were any, and where a change of it may not show. */
  cached: string | undefined;
  /** Opens, and requests to open it that wait for an answer. */
  users: number;
}

/** The answer to an open: FOPEN_* flags, and the backing id that FOPEN_PASSTHROUGH needs. */
export interface Opened {
  handle: number;
  flags: number;
  backingId: number;
}

export interface FilesOptions {
  /** Files, each with a descriptor, that are kept after their last close. */
  readonly idleMax: number;
  /** read: blocks are checked whenever they are read; open: never again; undefined: whenever the kernel asks us for them. */
  readonly verify?: 'open' | 'read' | undefined;
  /** Measures what would hold others up; without one everything is measured at once. */
  readonly measurer?: Measurer<Opened | number> | undefined;
}

/** Bytes of block hashes that idle files keep at most. */
const IDLE_LEAVES_MAX = 1 << 25;
/** Data of this size is measured faster than another thread is woken: a tenth of a millisecond. */
const AT_ONCE_BYTES = 1 << 17;

/**
 * Keeps what is open and a bounded number of files that were. The kernel refuses to open an inode with two backing ids
 * at a time, and opening a file again must cost no search.
 */
export class Files {
  /** Numbers at FileCount, and what is counted of idle files, those in use being hits as well. */
  readonly counters = newCounters(FileCount.SIZE);
  readonly cacheCounts = new CacheCounts();
  private readonly overlay: Overlay;
  private readonly backing: Backing;
  private readonly options: FilesOptions;
  private readonly inUse = new Map<Nodeid, File>();
  private readonly idle: LRUCache<Nodeid, File>;
  private readonly handles = new Map<number, File>();
  private readonly keepDescriptors = spareDescriptors(() => {
    while (this.idle.size > 1) this.idle.pop(); // the last one used may be being opened
    this.cacheCounts.holds(this.idle);
  });
  private nextHandle = 1;

  constructor(overlay: Overlay, backing: Backing, options: FilesOptions) {
    this.overlay = overlay;
    this.backing = backing;
    this.options = options;
    this.idle = new LRUCache({
      max: options.idleMax,
      maxSize: IDLE_LEAVES_MAX,
      sizeCalculation: ({ data, reads }) => 1 + (reads === data ? 0 : Math.ceil(data.sizeBytes / 128)),
      dispose: file => {
        if (!this.inUse.has(file.nodeid)) this.dispose(file);
      },
    });
    this.cacheCounts.holds(this.idle);
  }

  /**
   * Opens a regular file. @param unique the request, which may then be answered by `settled`
   * @returns the handle, a negative errno, or DEFERRED; throws as Overlay.find, Overlay.check and a Check do
   */
  open(nodeid: Nodeid, node: Node, unique?: Unique): Opened | number {
    const file = this.rechecked(nodeid, node);
    if (typeof file === 'number') return file;
    const ready = this.ready(file, node, unique, checked => this.grant(checked));
    return typeof ready === 'number' ? ready : this.grant(ready);
  }

  /** A file that is kept or found, whose node is what the kernel was told. */
  private rechecked(nodeid: Nodeid, node: Node): File | number {
    const kept = this.kept(nodeid);
    const hasOwnData = node.data === undefined;
    if (kept || !hasOwnData) this.recheck(node, kept);
    const file = kept ?? this.find(nodeid, node);
    if (typeof file === 'number' || kept || !hasOwnData) return file;
    try {
      this.recheck(node, file);
    } catch (error) {
      this.dispose(file);
      throw error;
    }
    return file;
  }

  /** @param file of the node, whose own descriptor spares a search for its name */
  private recheck({ top }: Node, file: File | undefined): void {
    const fd = file?.node.data === undefined ? (file?.data.fd ?? -1) : -1;
    top.layer.recheck?.(top, fd, file !== undefined && file.users > 0);
  }

  /**
   * What a regular file is read from that the kernel opens without asking; it is kept as one that was closed.
   * @param unique the request, which may then be answered by `settled`, and asks again for that
   * @returns as `open`
   */
  unopened(nodeid: Nodeid, node: Node, unique?: Unique): Data | number {
    const file = this.kept(nodeid) ?? this.find(nodeid, node);
    if (typeof file === 'number') return file;
    const ready = this.ready(file, node, unique, checked => this.keepIdle(checked));
    if (typeof ready === 'number') return ready;
    this.keepIdle(ready);
    return ready.reads;
  }

  /**
   * Checks a file. @param answerWith makes an answer of it, where that was left for later
   * @returns the file, ready to be read, a negative errno, or DEFERRED
   */
  private ready(
    file: File,
    node: Node,
    unique: Unique | undefined,
    answerWith: (file: File) => Opened | number,
  ): File | number {
    try {
      const { data } = file;
      if (file.unchecked) return file;
      if (file.passed !== undefined && file.passed === data.version) return this.counted(file, FileCount.remembered);
      const check = this.overlay.check(node, data);
      if (check === undefined) return this.trusted(file);
      const withLeaves = this.needsLeaves(file, check);
      const known = check.known(withLeaves);
      if (known) {
        const ready = this.checked(file, check, known);
        return this.counted(ready, known.byKernel ? FileCount.byKernel : FileCount.remembered);
      }
      if (unique !== undefined && this.takesLong(check)) return this.leave(file, check, unique, withLeaves, answerWith);
      return this.counted(this.checked(file, check, check.measure(withLeaves)), FileCount.measured);
    } catch (error) {
      this.refuse(file, error);
      throw error;
    }
  }

  private kept(nodeid: Nodeid): File | undefined {
    const file = this.inUse.get(nodeid) ?? this.idle.get(nodeid);
    this.cacheCounts.asked(file !== undefined);
    return file;
  }

  private counted(file: File, at: number): File {
    count(this.counters, at);
    return file;
  }

  private find(nodeid: Nodeid, node: Node): File | number {
    const data = this.overlay.find(node);
    if (typeof data === 'number') return data;
    const unknown = { unchecked: false, passed: undefined, cached: undefined };
    return { nodeid, node, data, reads: data, backingId: 0, users: 0, ...unknown };
  }

  // ---- checks ------------------------------------------------------------------------------------------------------

  /** Whether reads are to be checked. Without the option verify that depends on whether the kernel takes this file. */
  private needsLeaves(file: File, { byOrigin }: Check): boolean {
    const { verify } = this.options;
    if (byOrigin) return true;
    if (verify !== undefined) return verify === 'read';
    this.passThrough(file);
    return file.backingId === 0;
  }

  private takesLong({ data, sizeBytes }: Check): boolean {
    return this.options.measurer !== undefined && data.fd >= 0 && sizeBytes > AT_ONCE_BYTES;
  }

  /** Leaves a request to be answered when the data has been measured. */
  private leave(
    file: File,
    check: Check,
    unique: Unique,
    withLeaves: boolean,
    answerWith: (file: File) => Opened | number,
  ): number {
    const { sizeBytes, algorithm } = check;
    const work = { fd: file.data.fd, sizeBytes, algorithm, withLeaves };
    const key = withLeaves ? `${check.key} by blocks` : check.key;
    const answer = (result: Result): Opened | number => {
      file.users--; // the request's; a handle has its own
      try {
        const ready = this.checked(file, check, check.learn({ ...result(), byKernel: false }));
        return answerWith(this.counted(ready, FileCount.measured));
      } catch (error) {
        this.refuse(file, error);
        throw error;
      }
    };
    this.options.measurer?.begin(key, { unique, work, answer });
    this.use(file); // not before: it may throw
    return DEFERRED;
  }

  /** Told when the connection is made. @param passthrough whether the kernel can read data itself */
  begin(passthrough: boolean): void {
    if (!passthrough) this.backing.disable();
  }

  /** An open that was left for later and can be answered now. Its answer may throw as `open` does. */
  settled(): { unique: Unique; answer: () => Opened | number } | undefined {
    return this.options.measurer?.settled();
  }

  interrupt(unique: Unique): void {
    this.options.measurer?.interrupt(unique);
  }

  /** Takes note that the data is what it must be, and arranges how it is read. */
  private checked(file: File, check: Check, measured: Measured): File {
    const { byKernel, leaves } = measured;
    if (byKernel || !this.needsLeaves(file, check)) this.passThrough(file);
    else if (leaves) file.reads = check.checkedData(leaves);
    file.passed = check.isLasting(measured) ? check.version : undefined;
    return file;
  }

  private trusted(file: File): File {
    this.passThrough(file);
    file.unchecked = true;
    return file;
  }

  private passThrough(file: File): void {
    if (file.backingId > 0) return;
    file.backingId = this.backing.open(file.data);
    if (file.backingId > 0) count(this.counters, FileCount.backings);
  }

  // ---- handles -----------------------------------------------------------------------------------------------------

  private grant(file: File): Opened {
    const flags = this.openFlags(file);
    this.use(file);
    const handle = this.nextHandle++;
    this.handles.set(handle, file);
    this.counters[FileCount.handles] = this.handles.size;
    return { handle, flags, backingId: file.backingId };
  }

  private use(file: File): void {
    file.users++;
    this.inUse.set(file.nodeid, file);
    this.removeFromIdle(file.nodeid);
  }

  /** Takes a file out of those that are idle. @returns whether it was one */
  private removeFromIdle(nodeid: Nodeid): boolean {
    const wasIdle = this.idle.delete(nodeid);
    this.cacheCounts.holds(this.idle);
    return wasIdle;
  }

  /** Pages that the kernel has stay valid while the data does not change; data of another size can not be cached. */
  private openFlags(file: File): number {
    if (file.backingId > 0) return Fopen.PASSTHROUGH;
    if (file.data.sizeBytes !== file.node.top.sizeBytes) return Fopen.DIRECT_IO;
    const { version, isSettled } =
      file.passed === undefined ? lookAt(file.data) : { version: file.passed, isSettled: true };
    const unchanged = version === '' || version === file.cached;
    file.cached = isSettled ? version : undefined;
    return unchanged ? Fopen.KEEP_CACHE : 0;
  }

  /** A descriptor of the node itself, which somebody has open; -1 where nobody has, or its data is elsewhere. */
  openFd(nodeid: Nodeid): number {
    const file = this.inUse.get(nodeid);
    return file !== undefined && file.users > 0 && file.node.data === undefined ? file.data.fd : -1;
  }

  /** What an open file is read from. */
  get(handle: number): Data | undefined {
    return this.handles.get(handle)?.reads;
  }

  release(handle: number): void {
    const file = this.handles.get(handle);
    if (!file) return;
    this.handles.delete(handle);
    this.counters[FileCount.handles] = this.handles.size;
    if (--file.users === 0 && !this.keep(file)) this.dispose(file);
  }

  /** Keeps a file without users for those to come. @returns whether it could be kept: its hashes may be too many */
  private keep(file: File): boolean {
    this.inUse.delete(file.nodeid);
    this.idle.set(file.nodeid, file);
    this.cacheCounts.holds(this.idle);
    return this.idle.has(file.nodeid);
  }

  /** Keeps a file that is read without being opened, whatever its size: its next reader would have it measured again. */
  private keepIdle(file: File): number {
    if (file.users === 0 && !this.keep(file)) this.inUse.set(file.nodeid, file);
    return file.users;
  }

  /** Lets go of a file that could not be opened, unless it is open already. */
  private refuse(file: File, error: unknown): void {
    const wasInterrupted = error instanceof ErrnoError && error.errno === EINTR;
    if (!wasInterrupted) count(this.counters, FileCount.failed);
    if (file.users > 0) return;
    this.inUse.delete(file.nodeid);
    if (!this.removeFromIdle(file.nodeid)) this.dispose(file);
  }

  /** Lets go of a file that the kernel has forgotten: its data is to be found anew. */
  drop(nodeid: Nodeid): void {
    this.removeFromIdle(nodeid);
    const file = this.inUse.get(nodeid);
    if (file?.users !== 0) return;
    this.inUse.delete(nodeid);
    this.dispose(file);
  }

  close(): void {
    this.keepDescriptors();
    for (const file of this.inUse.values()) this.dispose(file);
    this.inUse.clear();
    this.idle.clear();
  }

  private dispose(file: File): void {
    if (file.backingId > 0) count(this.counters, FileCount.backings, -1);
    this.backing.close(file.backingId);
    file.data.close();
  }
}
