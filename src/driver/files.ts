/** Open regular files. Each has one data source and one backing id, however often it is opened. */

import { DEFERRED, type Nodeid, type Unique } from '../fuse/filesystem.ts';
import { Fopen } from '../fuse/wire/abi.ts';
import type { Data } from '../layers/layer.ts';
import type { Node } from '../overlay/node.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { type Check, lookAt, type Measured } from '../overlay/verifier.ts';
import { CacheCounts, count, newCounters } from '../sys/counters.ts';
import { spareDescriptors } from '../sys/descriptors.ts';
import { EINTR, ErrnoError } from '../sys/errno.ts';
import { FileCount } from './activity.ts';
import type { Backing } from './backing.ts';
import { type Kept, KeptFiles, UNKEPT } from './kept-files.ts';
import type { Measurer, Result } from './measurer.ts';

/**
 * A file that is open, or that was and is kept in case it is opened again. Its users are its handles, and the deferred requests to
 * open it.
 */
interface File extends Kept {
  readonly node: Node;
  readonly data: Data;
  /** The source for READ: the data itself, or the data with a check of each block. */
  reads: Data;
  /** The id of the registered backing file; 0 if reads come to this process. */
  backingId: number;
  /** Whether there is nothing to check. */
  unchecked: boolean;
  /**
   * The version of the data that passed its check; undefined before a check, or if a later change might not show in the version.
   */
  passed: string | undefined;
  /** The version that the kernel may have pages of; undefined if there is none, or if a change might not show in the version. */
  cached: string | undefined;
}

/** The answer to an open: the handle, FOPEN_* flags, and the backing id for FOPEN_PASSTHROUGH. */
export interface OpenReply {
  handle: number;
  flags: number;
  backingId: number;
}

export interface FilesOptions {
  /** The number of files kept after their last close; each holds a descriptor. */
  readonly idleMax: number;
  /** When blocks are checked. read: at every read; open: only at open; undefined: at reads that come to this process. */
  readonly verify?: 'open' | 'read' | undefined;
  /** Measures large files on other threads; without it, all files are measured at once on this one. */
  readonly measurer?: Measurer<OpenReply | number> | undefined;
  /** The first handle to give; lower ones are those of earlier servers of the same mount. undefined: 1 */
  readonly firstHandle?: number | undefined;
}

/** The limit for the block hashes of idle files, in bytes. */
const IDLE_LEAVES_MAX = 1 << 25;
/** Data up to this size is measured in 0.1 ms, less than waking another thread takes. */
const AT_ONCE_BYTES = 1 << 17;

/**
 * Keeps open files and a bounded number of closed ones. The kernel refuses to open an inode with two backing ids at a time.
 * Opening a file again must not search the layers.
 */
export class Files {
  /** Numbers at the indices of FileCount. `cacheCounts` counts the cache of idle files; files in use count as hits, too. */
  readonly counters = newCounters(FileCount.SIZE);
  readonly cacheCounts = new CacheCounts();
  private readonly overlay: Overlay;
  private readonly backing: Backing;
  private readonly options: FilesOptions;
  private readonly files: KeptFiles<File>;
  private readonly handles = new Map<number, File>();
  private readonly keepDescriptors = spareDescriptors(() => {
    this.files.removeIdle();
    this.cacheCounts.holds(this.files);
  });
  private readonly firstHandle: number;
  private nextHandle: number;

  constructor(overlay: Overlay, backing: Backing, options: FilesOptions) {
    this.overlay = overlay;
    this.backing = backing;
    this.options = options;
    this.firstHandle = options.firstHandle ?? 1;
    this.nextHandle = this.firstHandle;
    this.files = new KeptFiles(options.idleMax, IDLE_LEAVES_MAX, file => this.dispose(file));
    this.cacheCounts.holds(this.files);
  }

  /**
   * Opens a regular file.
   * @param unique the request, which may then be DEFERRED and answered by `settled`; without it the answer is immediate
   * @returns the handle, a negative errno, or DEFERRED
   * Throws as Overlay.find, Overlay.check and a Check do.
   */
  open(nodeid: Nodeid, node: Node, unique?: Unique): OpenReply | number {
    const file = this.rechecked(nodeid, node);
    if (typeof file === 'number') return file;
    const ready = this.ready(file, node, unique, checked => this.grant(checked));
    return typeof ready === 'number' ? ready : this.grant(ready);
  }

  /** A kept or newly found file, after its layer has checked that the node still is the one that the kernel knows. */
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

  /** @param file an open file of the node; its descriptor saves a lookup by name */
  private recheck({ top }: Node, file: File | undefined): void {
    const fd = file?.node.data === undefined ? (file?.data.fd ?? -1) : -1;
    top.layer.recheck?.(top, fd, file !== undefined && file.users > 0);
  }

  /**
   * The data of a regular file that the kernel opens without asking. The file is then kept as one that was closed.
   * @param unique the request, which may then be DEFERRED; its answer only says that the data can be asked for again
   * @returns the data, a negative errno, or DEFERRED; throws as `open` does
   */
  unopened(nodeid: Nodeid, node: Node, unique?: Unique): Data | number {
    const file = this.kept(nodeid) ?? this.find(nodeid, node);
    if (typeof file === 'number') return file;
    const ready = this.ready(file, node, unique, checked => this.keepUnopened(checked));
    if (typeof ready === 'number') return ready;
    this.keepUnopened(ready);
    return ready.reads;
  }

  /**
   * Checks a file.
   * @param answerWith makes the answer from the file if the request is DEFERRED
   * @returns the file, ready to be read, a negative errno, or DEFERRED
   */
  private ready(
    file: File,
    node: Node,
    unique: Unique | undefined,
    answerWith: (file: File) => OpenReply | number,
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
    const file = this.files.get(nodeid);
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
    return {
      nodeid,
      node,
      data,
      reads: data,
      backingId: 0,
      unchecked: false,
      passed: undefined,
      cached: undefined,
      ...UNKEPT,
    };
  }

  // ---- checks ------------------------------------------------------------------------------------------------------

  /**
   * Whether reads must be checked. Without the option `verify`, they are checked if the kernel does not read this file itself.
   */
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

  /** Defers a request until the data has been measured. */
  private leave(
    file: File,
    check: Check,
    unique: Unique,
    withLeaves: boolean,
    answerWith: (file: File) => OpenReply | number,
  ): number {
    const { sizeBytes, algorithm } = check;
    const work = { fd: file.data.fd, sizeBytes, algorithm, withLeaves };
    const key = withLeaves ? `${check.key} by blocks` : check.key;
    const answer = (result: Result): OpenReply | number => {
      try {
        const ready = this.checked(file, check, check.learn({ ...result(), byKernel: false }));
        const reply = answerWith(this.counted(ready, FileCount.measured));
        this.endUse(file); // that by the request; a handle has its own
        return reply;
      } catch (error) {
        this.countFailure(error);
        this.files.reject(file);
        throw error;
      }
    };
    this.options.measurer?.begin(key, { unique, work, answer });
    this.use(file); // not earlier: begin() may throw
    return DEFERRED;
  }

  /** Must be called when the connection is made. @param passthrough whether the kernel can read data itself */
  begin(passthrough: boolean): void {
    if (!passthrough) this.backing.disable();
  }

  /** Returns a deferred open that can be answered now, or undefined. Its answer may throw as `open` does. */
  settled(): { unique: Unique; answer: () => OpenReply | number } | undefined {
    return this.options.measurer?.settled();
  }

  interrupt(unique: Unique): void {
    this.options.measurer?.interrupt(unique);
  }

  /** Records that the data passed its check and chooses how reads are served. */
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
    file.backingId = this.backing.open(file.data, file.nodeid);
    if (file.backingId > 0) count(this.counters, FileCount.backings);
  }

  // ---- handles -----------------------------------------------------------------------------------------------------

  private grant(file: File): OpenReply {
    const flags = this.openFlags(file);
    this.use(file);
    const handle = this.nextHandle++;
    this.handles.set(handle, file);
    this.counters[FileCount.handles] = this.handles.size;
    return { handle, flags, backingId: file.backingId };
  }

  private use(file: File): void {
    this.files.use(file);
    this.cacheCounts.holds(this.files);
  }

  private endUse(file: File): void {
    this.files.release(file, idleBytesOf(file));
    this.cacheCounts.holds(this.files);
  }

  /** The kernel's pages stay valid while the data is unchanged. Data whose size differs from the inode's cannot be cached. */
  private openFlags(file: File): number {
    if (file.backingId > 0) return Fopen.PASSTHROUGH;
    const look = lookAt(file.data);
    if (look.sizeBytes !== file.node.top.sizeBytes) return Fopen.DIRECT_IO;
    const { version, isSettled } = file.passed === undefined ? look : { version: file.passed, isSettled: true };
    const unchanged = version === '' || version === file.cached;
    file.cached = isSettled ? version : undefined;
    return unchanged ? Fopen.KEEP_CACHE : 0;
  }

  /** The node of a file that is kept; undefined if none is. */
  nodeOf(nodeid: Nodeid): Node | undefined {
    return this.files.peek(nodeid)?.node;
  }

  /** The descriptor of the node's own file, if it is open; -1 if it is not, or if the node's data is in another file. */
  openFd(nodeid: Nodeid): number {
    const file = this.files.peek(nodeid);
    return file !== undefined && file.users > 0 && file.node.data === undefined ? file.data.fd : -1;
  }

  /** Whether a file is open. */
  isOpen(nodeid: Nodeid): boolean {
    return (this.files.peek(nodeid)?.users ?? 0) > 0;
  }

  /** Whether a handle may be one that an earlier server of this mount has given. */
  isEarlier(handle: number): boolean {
    return handle > 0 && handle < this.firstHandle;
  }

  /** The data of an open file; undefined for an unknown handle. */
  get(handle: number): Data | undefined {
    return this.handles.get(handle)?.reads;
  }

  release(handle: number): void {
    const file = this.handles.get(handle);
    if (!file) return;
    this.handles.delete(handle);
    this.counters[FileCount.handles] = this.handles.size;
    this.endUse(file);
  }

  /**
   * Keeps a file that is read without being opened, however large its hashes are: its next reader would have to measure it again.
   * @returns the number of its users
   */
  private keepUnopened(file: File): number {
    this.files.keep(file, idleBytesOf(file));
    this.cacheCounts.holds(this.files);
    return file.users;
  }

  /** Drops a file that could not be opened, unless it is already open. */
  private refuse(file: File, error: unknown): void {
    this.countFailure(error);
    if (file.users === 0) this.remove(file);
  }

  private countFailure(error: unknown): void {
    const wasInterrupted = error instanceof ErrnoError && error.errno === EINTR;
    if (!wasInterrupted) count(this.counters, FileCount.failed);
  }

  /** Drops a file that the kernel has forgotten, unless it has users; its data is found anew next time. */
  drop(nodeid: Nodeid): void {
    const file = this.files.peek(nodeid);
    if (file?.users === 0) this.remove(file);
    this.backing.forget(nodeid);
  }

  private remove(file: File): void {
    this.files.remove(file);
    this.cacheCounts.holds(this.files);
  }

  close(): void {
    this.keepDescriptors();
    this.files.close();
  }

  private dispose(file: File): void {
    if (file.backingId > 0) count(this.counters, FileCount.backings, -1);
    this.backing.close(file.backingId, file.nodeid);
    file.data.close();
  }
}

/** Block hashes take 1/128 of the data. */
const idleBytesOf = ({ data, reads }: File): number => 1 + (reads === data ? 0 : Math.ceil(data.sizeBytes / 128));
