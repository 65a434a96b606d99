/** Open regular files: one set of data and one backing id for each, however often it is opened. */
import { LRUCache } from 'lru-cache';
import { Fopen } from '../fuse/abi.ts';
import type { Nodeid } from '../fuse/ops.ts';
import type { Data } from '../layers/layer.ts';
import type { Node } from '../overlay/node.ts';
import type { Overlay } from '../overlay/overlay.ts';
import type { Backing } from './backing.ts';

/** A file that is open, or was and may be again. */
interface File {
  readonly nodeid: Nodeid;
  readonly node: Node;
  readonly data: Data;
  /** 0 where reads come to us. */
  readonly backingId: number;
  /** Of the data that the kernel may have pages of; '' before there were any. */
  version: string;
  users: number;
}

/** The answer to an open: FOPEN_* flags, and the backing id that FOPEN_PASSTHROUGH needs. */
export interface Opened {
  handle: number;
  flags: number;
  backingId: number;
}

/**
 * Keeps what is open and a bounded number of files that were. The kernel refuses to open an inode with two backing ids
 * at a time, and opening a file again must cost no search.
 */
export class Files {
  private readonly overlay: Overlay;
  private readonly backing: Backing;
  private readonly inUse = new Map<Nodeid, File>();
  private readonly idle: LRUCache<Nodeid, File>;
  private readonly handles = new Map<number, File>();
  private nextHandle = 1;

  /** @param idleMax files, each with a descriptor, kept after their last close */
  constructor(overlay: Overlay, backing: Backing, idleMax: number) {
    this.overlay = overlay;
    this.backing = backing;
    this.idle = new LRUCache({
      max: idleMax,
      dispose: file => {
        if (!this.inUse.has(file.nodeid)) this.dispose(file);
      },
    });
  }

  /** Opens a regular file. @returns the handle, or a negative errno; throws as Overlay.open does */
  open(nodeid: Nodeid, node: Node): Opened | number {
    const known = this.inUse.get(nodeid) ?? this.idle.get(nodeid);
    if (known) this.overlay.verify(node, known.data); // before its new version counts as one whose pages are good
    const file = known ?? this.find(nodeid, node);
    if (typeof file === 'number') return file;
    const flags = this.openFlags(file, known !== undefined);
    file.users++;
    this.inUse.set(nodeid, file);
    this.idle.delete(nodeid);
    const handle = this.nextHandle++;
    this.handles.set(handle, file);
    return { handle, flags, backingId: file.backingId };
  }

  private find(nodeid: Nodeid, node: Node): File | number {
    const data = this.overlay.open(node);
    if (typeof data === 'number') return data;
    const file: File = { nodeid, node, data, backingId: this.backing.open(data), version: '', users: 0 };
    this.idle.set(nodeid, file); // which closes it one day, should the open fail after all
    return file;
  }

  /** Pages that the kernel has stay valid while the data does not change; data of another size can not be cached. */
  private openFlags(file: File, wasOpen: boolean): number {
    if (file.backingId > 0) return Fopen.PASSTHROUGH;
    if (file.data.sizeBytes !== file.node.top.sizeBytes) return Fopen.DIRECT_IO;
    const version = file.data.version;
    const unchanged = version === '' || (wasOpen && version === file.version);
    file.version = version;
    return unchanged ? Fopen.KEEP_CACHE : 0;
  }

  get(handle: number): Data | undefined {
    return this.handles.get(handle)?.data;
  }

  release(handle: number): void {
    const file = this.handles.get(handle);
    if (!file) return;
    this.handles.delete(handle);
    if (--file.users > 0) return;
    this.inUse.delete(file.nodeid);
    this.idle.set(file.nodeid, file);
  }

  /** Lets go of a file that the kernel has forgotten: its data is to be found anew. */
  drop(nodeid: Nodeid): void {
    this.idle.delete(nodeid);
  }

  close(): void {
    for (const file of this.inUse.values()) this.dispose(file);
    this.inUse.clear();
    this.idle.clear();
  }

  private dispose(file: File): void {
    this.backing.close(file.backingId);
    file.data.close();
  }
}
