/** Open regular files of the upper layer: one descriptor for each, however often it is open. */

import type { Nodeid } from '../../fuse/filesystem.ts';
import { Fopen } from '../../fuse/wire/abi.ts';
import type { UpperLayer } from '../../layers/upper.ts';
import { EACCES, EPERM, EROFS, ETXTBSY } from '../../sys/errno.ts';
import { native } from '../../sys/native.ts';
import { statx, statxSize } from '../../sys/statx.ts';
import type { UpperNode } from '../../upper/node.ts';
import type { Backing } from '../backing.ts';
import type { OpenReply } from '../files.ts';

export interface UpperFile {
  readonly nodeid: Nodeid;
  readonly node: UpperNode;
  fd: number;
  isWritable: boolean;
  handles: number;
  /** How many of them may map the file for writing while the kernel writes it itself: nobody hears of such changes. */
  mappable: number;
  /** The id of the registered file while the kernel reads and writes it itself; 0 if it asks this process. */
  backingId: number;
}

interface Handle {
  readonly file: UpperFile;
  readonly isMappable: boolean;
  /** Whether the file is append-only: nothing that it has may be overwritten. */
  readonly isAppending?: boolean;
}

/** Handles of these files; those of files in lower layers are smaller. */
const FIRST_HANDLE = 2 ** 40;
/** Errors of an open for writing after which a file may still be read. */
const READ_ONLY: readonly number[] = [-EACCES, -EPERM, -EROFS, -ETXTBSY];

export class UpperFiles {
  private readonly layer: UpperLayer;
  private readonly backing: Backing;
  private readonly files = new Map<Nodeid, UpperFile>();
  private readonly handles = new Map<number, Handle>();
  private readonly attributesChanged: (nodeid: Nodeid) => void;
  private next = FIRST_HANDLE;

  /** @param attributesChanged tells the kernel that it must ask for the attributes of a node again */
  constructor(layer: UpperLayer, backing: Backing, attributesChanged: (nodeid: Nodeid) => void) {
    this.attributesChanged = attributesChanged;
    this.layer = layer;
    this.backing = backing;
  }

  /**
   * Opens a file that has its data in the upper layer.
   * @returns the file, or a negative errno
   */
  open(nodeid: Nodeid, node: UpperNode, isWritten: boolean): UpperFile | number {
    const known = this.files.get(nodeid);
    if (known && (known.isWritable || !isWritten)) return known;
    let fd = this.layer.openFile(node.top);
    const isReadOnly = !isWritten && READ_ONLY.includes(fd);
    if (isReadOnly) fd = this.layer.openFile(node.top, false);
    if (fd < 0) return fd;
    if (known === undefined) return this.add(nodeid, node, fd, !isReadOnly);
    if (known.backingId > 0) {
      native.close(fd); // its handles go on without writing
      return -EACCES;
    }
    native.close(known.fd);
    known.fd = fd;
    node.openFd = fd;
    known.isWritable = true;
    return known;
  }

  /** Takes over a descriptor of a node's file. */
  add(nodeid: Nodeid, node: UpperNode, fd: number, isWritable: boolean): UpperFile {
    const file: UpperFile = { nodeid, node, fd, isWritable, handles: 0, mappable: 0, backingId: 0 };
    this.files.set(nodeid, file);
    node.openFd = fd;
    return file;
  }

  /**
   * @param isCached whether the kernel caches pages of the node for other handles, so that it cannot read the file itself
   * @param isMappable whether the handle is for reading and writing
   */
  grant(file: UpperFile, isCached: boolean, isMappable: boolean): OpenReply {
    if (file.handles === 0 && !isCached) file.backingId = this.backing.open(file, file.nodeid);
    const { backingId, nodeid } = file;
    file.handles++;
    const handle = this.next++;
    const mapped = isMappable && backingId > 0;
    this.handles.set(handle, { file, isMappable: mapped });
    if (mapped && file.mappable++ === 0) this.attributesChanged(nodeid); // from now on, they are not cached
    return { handle, flags: backingId > 0 ? Fopen.PASSTHROUGH : Fopen.KEEP_CACHE, backingId };
  }

  /** Grants an open of an append-only file: the kernel sends every write, at once. */
  grantAppending(file: UpperFile): OpenReply {
    file.handles++;
    const handle = this.next++;
    this.handles.set(handle, { file, isMappable: false, isAppending: true });
    return { handle, flags: Fopen.DIRECT_IO, backingId: 0 };
  }

  /** Whether a write by a handle may begin at an offset: O_APPEND alone keeps nobody from that, as fcntl(2) takes it away. */
  mayWriteAt(handle: number, position: number): boolean {
    const held = this.handles.get(handle);
    if (!held?.isAppending) return true;
    return statx(held.file.fd, '') === 0 && position >= statxSize();
  }

  /** The open file of a handle; undefined for a handle of another kind. */
  get(handle: number): UpperFile | undefined {
    return this.handles.get(handle)?.file;
  }

  /** Whether the attributes of a node may change without a request. */
  changesUnseen(nodeid: Nodeid): boolean {
    return (this.files.get(nodeid)?.mappable ?? 0) > 0;
  }

  /** The open file of a node. */
  of(nodeid: Nodeid): UpperFile | undefined {
    return this.files.get(nodeid);
  }

  /** @returns whether the handle was one of these files */
  release(handle: number): boolean {
    const held = this.handles.get(handle);
    if (held === undefined) return handle >= FIRST_HANDLE;
    const { file, isMappable } = held;
    this.handles.delete(handle);
    if (isMappable && --file.mappable === 0) this.attributesChanged(file.nodeid);
    file.handles--;
    if (file.handles === 0) this.close(file);
    return true;
  }

  /** Closes a file that was opened, but not granted to anybody. */
  abandon(file: UpperFile): void {
    if (file.handles === 0) this.close(file);
  }

  private close(file: UpperFile): void {
    this.files.delete(file.nodeid);
    file.node.openFd = -1;
    if (file.backingId > 0) this.backing.close(file.backingId, file.nodeid);
    native.close(file.fd);
  }

  closeAll(): void {
    for (const file of [...this.files.values()]) this.close(file);
    this.handles.clear();
  }
}
