/** The operations on regular files: open, read, seek and release. */
import { DEFERRED, type Nodeid, type Settled, type Unique } from '../fuse/filesystem.ts';
import type { Out } from '../fuse/reply.ts';
import * as reply from '../fuse/reply.ts';
import type { Data } from '../layers/layer.ts';
import type { Node } from '../overlay/node.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { EBADF, EIO, EISDIR, ENOSYS, ENXIO, EROFS, ESTALE } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { isDirectory } from '../sys/stat.ts';
import type { UpperNode } from '../upper/node.ts';
import type { Files } from './files.ts';
import type { NodeTable } from './nodes.ts';
import { putOpened } from './opened.ts';
import type { OverlayChanges } from './writable/changes.ts';

// Source: asm-generic/fcntl.h
const O_RDONLY = 0;
const O_ACCMODE = 3;
const O_TRUNC = 0o1000;

export class FileOperations {
  /** Whether the kernel opens files without asking. `deferredReads` are then repeated when their data has been checked. */
  opensFilesItself = false;
  private readonly deferredReads = new Map<Unique, (out: Out) => number>();
  private readonly overlay: Overlay;
  private readonly nodes: NodeTable;
  private readonly files: Files;
  private readonly changes: OverlayChanges | undefined;

  constructor(overlay: Overlay, nodes: NodeTable, files: Files, changes: OverlayChanges | undefined) {
    this.overlay = overlay;
    this.nodes = nodes;
    this.files = files;
    this.changes = changes;
  }

  open(nodeid: Nodeid, flags: number, out: Out, unique: Unique, killsPrivileges: boolean): number {
    const node = this.nodeOf(nodeid);
    if (node === undefined) return -ESTALE;
    if (isDirectory(node.top.mode)) return -EISDIR;
    if (this.changes?.opens(node as UpperNode, flags))
      return this.changes.open(nodeid, node as UpperNode, flags, killsPrivileges, out, unique);
    if ((flags & O_ACCMODE) !== O_RDONLY || flags & O_TRUNC) return -EROFS; // comes only after a remount
    if (this.opensFilesItself) return -ENOSYS; // and the kernel stops asking; it reads with handle 0, and caches pages
    return putOpened(out, this.files.open(nodeid, node, unique));
  }

  /** The same as in the table; that of a kept file need not be made again. */
  private nodeOf(nodeid: Nodeid): Node | undefined {
    return (this.overlay.recalls ? this.files.nodeOf(nodeid) : undefined) ?? this.nodes.get(nodeid);
  }

  settled(): Settled | undefined {
    const settled = this.files.settled();
    if (settled === undefined) return this.changes?.settled();
    const { unique } = settled;
    const readAgain = this.deferredReads.get(unique);
    this.deferredReads.delete(unique);
    const answer = (out: Out): number => {
      const opened = settled.answer();
      return readAgain ? readAgain(out) : putOpened(out, opened);
    };
    return { unique, answer };
  }

  read(nodeid: Nodeid, fh: number, position: number, length: number, out: Out, unique: Unique): number {
    const inUpper = this.inUpper(nodeid, fd => native.pread(fd, out.bytes, 0, length, position));
    if (inUpper !== undefined) return inUpper;
    const data = this.dataOf(nodeid, fh, unique);
    if (typeof data !== 'number') return data.read(out.bytes, 0, length, position);
    if (data === DEFERRED) this.deferredReads.set(unique, later => this.readNow(nodeid, fh, position, length, later));
    return data;
  }

  private readNow(nodeid: Nodeid, fh: number, position: number, length: number, out: Out): number {
    const data = this.dataOf(nodeid, fh);
    return typeof data === 'number' ? data : data.read(out.bytes, 0, length, position);
  }

  lseek(nodeid: Nodeid, fh: number, offset: number, whence: number, out: Out): number {
    if (offset < 0 || offset > Number.MAX_SAFE_INTEGER) return -ENXIO;
    const result =
      this.inUpper(nodeid, fd => native.lseek(fd, offset, whence)) ?? this.seek(nodeid, fh, offset, whence);
    return result < 0 ? result : reply.putLseekOut(out.view, 0, result);
  }

  private seek(nodeid: Nodeid, fh: number, offset: number, whence: number): number {
    const data = this.dataOf(nodeid, fh);
    return typeof data === 'number' ? data : data.seek(offset, whence);
  }

  /** Uses a node's data in the upper layer, even if the handle is older; undefined if it is not there. */
  private inUpper(nodeid: Nodeid, use: (fd: number) => number): number | undefined {
    if (this.changes === undefined) return undefined;
    const node = this.nodes.get(nodeid);
    return node === undefined ? -ESTALE : this.changes.withFile(nodeid, node as UpperNode, use);
  }

  /**
   * The data to read from. A file that the kernel opened itself, or that an earlier process has opened, is found and checked now.
   * @returns DEFERRED only with `unique`
   */
  private dataOf(nodeid: Nodeid, fh: number, unique?: Unique): Data | number {
    const isOpenHere = fh !== 0 || !this.opensFilesItself;
    if (isOpenHere && !this.files.isEarlier(fh)) return this.files.get(fh) ?? -EBADF;
    const node = this.nodeOf(nodeid);
    if (node === undefined) return -ESTALE;
    const data = this.files.unopened(nodeid, node, unique);
    return data === DEFERRED || typeof data !== 'number' ? data : -EIO; // ENOENT would be no valid answer to a read
  }

  release(fh: number): void {
    if (!this.changes?.release(fh)) this.files.release(fh);
  }
}
