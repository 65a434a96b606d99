/** The operations of FUSE that change a tree, over an overlay with an upper layer. */

import {
  type Caller,
  type Changes,
  DEFERRED,
  type FileAttributes,
  type NewNode,
  type NewTime,
  type Nodeid,
  type Setattr,
  type Settled,
  type Unique,
} from '../../fuse/filesystem.ts';
import type { Out } from '../../fuse/reply.ts';
import * as reply from '../../fuse/reply.ts';
import type { Node } from '../../overlay/node.ts';
import { isAcl } from '../../overlay/xattrs.ts';
import type { ByteString } from '../../sys/bytes.ts';
import { EEXIST, EFBIG, EISDIR, ENOENT, ENOTDIR, EPERM, ESTALE } from '../../sys/errno.ts';
import { native } from '../../sys/native.ts';
import { type Attr, isDirectory, isRegular, S_IFCHR, S_IFMT } from '../../sys/stat.ts';
import { type Times, UTIME_NOW, UTIME_OMIT } from '../../sys/statx.ts';
import { changeXattr, dropXattr, killPrivileges, setAttributes } from '../../upper/attributes.ts';
import { CopyPool } from '../../upper/copy-pool.ts';
import { copyUp } from '../../upper/copy-up.ts';
import { type Created, create, createUnnamed, linkTo, type NewObject } from '../../upper/create.ts';
import { setFileFlags } from '../../upper/flags.ts';
import { isCounted } from '../../upper/hard-links.ts';
import type { UpperNode } from '../../upper/node.ts';
import { withProtection } from '../../upper/protection.ts';
import { remove } from '../../upper/remove.ts';
import { type End, rename } from '../../upper/rename.ts';
import type { Upper } from '../../upper/upper.ts';
import type { CachePolicy } from '../cache.ts';
import type { Files, OpenReply } from '../files.ts';
import { putOpened } from '../opened.ts';
import type { Owners } from '../owners.ts';
import { LargeCopies } from './copies.ts';
import { FileChanges } from './file-changes.ts';
import type { UpperFile, UpperFiles } from './files.ts';
import { forbidsOpen, forbidsSetattr, isForAppending } from './forbidden.ts';
import type { WritableNodes } from './nodes.ts';

// Source: asm-generic/fcntl.h
const O_ACCMODE = 3;
const O_RDWR = 2;
const O_EXCL = 0o200;
const O_TRUNC = 0o1000;
const S_ISGID = 0o2000;
/**
 * The version of FUSE in which the flags that forbid changes can be set (Linux 6.6). Since 5.13, the kernel lets only callers with
 * CAP_LINUX_IMMUTABLE do that; since 6.6, a write to a file that is opened with DIRECT_IO drops the pages that others have read.
 */
const MINOR_OF_FLAGS = 39;
const ACCESS_ACL: ByteString = 'system.posix_acl_access';
/** In this part of the time for which the kernel may cache attributes, a listing does not repeat them. */
const KNOWN_PART = 0.5;
/** Writes the answer to a request that waited. */
type Answer = (out: Out) => number;

export interface Parts {
  /** What is closed with the tree. */
  readonly roots: { close(): void };
  readonly upper: Upper;
  readonly nodes: WritableNodes;
  /** Open files of the upper layer, and those of the layers below. */
  readonly files: UpperFiles;
  readonly lowerFiles: Files;
  readonly cache: CachePolicy;
  /** Owners that are shown in place of the stored ones. */
  readonly owners: Owners | undefined;
  /** Tells the kernel that the attributes of a node have changed without its knowledge. */
  readonly attributesChanged: (nodeid: Nodeid) => void;
}

export class OverlayChanges extends FileChanges implements Changes {
  hasLongSetxattr = false;
  private mayForbid = false;
  private readonly roots: Parts['roots'];
  private readonly lowerFiles: Files;
  private readonly cache: CachePolicy;
  private readonly owners: Owners | undefined;
  private readonly attributesChanged: Parts['attributesChanged'];
  private readonly copies: LargeCopies<Answer>;
  /** The node whose attributes are in the answer that is being made. */
  private answered: UpperNode | undefined;

  constructor({ roots, upper, nodes, files, lowerFiles, cache, owners, attributesChanged }: Parts) {
    super(upper, nodes, files);
    this.roots = roots;
    this.copies = new LargeCopies(upper, new CopyPool());
    this.lowerFiles = lowerFiles;
    this.cache = cache;
    this.owners = owners;
    this.attributesChanged = attributesChanged;
  }

  /** Takes what INIT agreed on. */
  begin(minor: number, hasLongSetxattr: boolean): void {
    this.hasLongSetxattr = hasLongSetxattr;
    this.mayForbid = minor >= MINOR_OF_FLAGS;
  }

  // ---- attributes --------------------------------------------------------------------------------------------------

  setattr(nodeid: Nodeid, change: Setattr, caller: Caller, out: Out, unique: Unique): number {
    const node = this.nodes.get(nodeid);
    if (node === undefined) return -ESTALE;
    if (change.size !== undefined && change.size > Number.MAX_SAFE_INTEGER) return -EFBIG;
    if (forbidsSetattr(node, change)) return -EPERM;
    const answer: Answer = later => this.setattrNow(nodeid, node, change, caller, later);
    const wants = change.size === undefined ? 'attributes' : change.size === 0 ? 'nothing' : 'data';
    return this.copies.begin(node, wants, { unique, answer: () => answer }) ? DEFERRED : answer(out);
  }

  private setattrNow(nodeid: Nodeid, node: UpperNode, change: Setattr, caller: Caller, out: Out): number {
    const file = this.files.of(nodeid);
    const { owners } = this;
    const { mode, size } = change;
    const uid = change.uid === undefined ? undefined : (owners?.storedUid(change.uid) ?? change.uid);
    const gid = change.gid === undefined ? undefined : (owners?.storedGid(change.gid) ?? change.gid);
    const isOfRoot = change.killsPrivileges === 'unless root' && caller.uid === 0;
    const killsPrivileges = isOfRoot ? ('capabilities' as const) : change.killsPrivileges !== false;
    const callerGid = caller.uid === 0 ? undefined : (owners?.storedGid(caller.gid) ?? caller.gid);
    const wanted = { mode, uid, gid, size, killsPrivileges, callerGid, times: timesWanted(change) };
    this.answered = node;
    let result = -1;
    try {
      result = setAttributes(this.upper, node, wanted, file?.isWritable ? file.fd : -1);
    } finally {
      this.answered = undefined;
      if (result < 0) this.attributesChanged(nodeid); // some may have changed
    }
    return result < 0 ? result : reply.putAttrOut(out.view, 0, this.attrSeconds(nodeid), this.attr(node));
  }

  /** The attributes of a node, with the owner that is shown. */
  private attr(node: UpperNode, isNew = false): Attr {
    const attr = this.upper.overlay.attr(node, -1, isNew);
    return this.owners?.show(attr) ?? attr;
  }

  /** The node of a listed name, if the kernel will still know it when it has read the listing. */
  known(directory: Node, name: ByteString): UpperNode | undefined {
    return this.nodes.given(directory as UpperNode, name, this.cache.attrSeconds * KNOWN_PART * 1000);
  }

  /** How long the kernel may cache the attributes of a node. */
  attrSeconds(nodeid: Nodeid): number {
    return this.files.changesUnseen(nodeid) ? 0 : this.cache.attrSeconds;
  }

  setxattr(nodeid: Nodeid, name: ByteString, value: Uint8Array, flags: number, killsSetgid: boolean): number {
    const node = this.nodes.get(nodeid);
    if (node === undefined) return -ESTALE;
    const stored = this.owners && isAcl(name) ? this.owners.storedAcl(value) : value;
    const result = changeXattr(this.upper, node, name, stored, flags);
    if (result < 0 || name !== ACCESS_ACL || !killsSetgid) return result;
    const { mode } = this.upper.overlay.attr(node);
    return (mode & S_ISGID) === 0 ? 0 : setAttributes(this.upper, node, { mode: mode & ~S_ISGID }, -1);
  }

  removexattr(nodeid: Nodeid, name: ByteString): number {
    const node = this.nodes.get(nodeid);
    return node === undefined ? -ESTALE : dropXattr(this.upper, node, name);
  }

  setFileAttributes(nodeid: Nodeid, kind: FileAttributes, value: Uint8Array): number {
    const node = this.nodes.get(nodeid);
    if (node === undefined) return -ESTALE;
    const result = setFileFlags(this.upper, node, kind, value, this.mayForbid);
    if (result === 0) this.attributesChanged(nodeid); // the change time
    return result;
  }

  /** The reply to an ioctl for the flags of a node: those that forbid changes are not flags of its inode. */
  showFlags(node: UpperNode, kind: FileAttributes, value: Uint8Array): Uint8Array {
    return withProtection(node, kind, value);
  }

  // ---- names -------------------------------------------------------------------------------------------------------

  make(parent: Nodeid, name: ByteString, wanted: NewNode, caller: Caller, out: Out): number {
    const directory = this.nodes.get(parent);
    if (directory === undefined) return -ESTALE;
    if ((wanted.mode & S_IFMT) === S_IFCHR && wanted.rdev === 0) return -EPERM; // it would be a whiteout
    const created = create(this.upper, directory, name, this.object(wanted, caller));
    if (typeof created === 'number') return created;
    if (created.fd >= 0) native.close(created.fd);
    return this.putEntry(this.nodes.remember(created.node), created.node, out, true);
  }

  create(parent: Nodeid, name: ByteString, wanted: NewNode, caller: Caller, flags: number, out: Out): number {
    const directory = this.nodes.get(parent);
    if (directory === undefined) return -ESTALE;
    const created = create(this.upper, directory, name, this.object(wanted, caller));
    if (created === -EEXIST && (flags & O_EXCL) === 0) return -ESTALE; // somebody was faster: the kernel looks it up
    return this.putCreated(created, flags, out);
  }

  createUnnamed(parent: Nodeid, wanted: NewNode, caller: Caller, flags: number, out: Out): number {
    const directory = this.nodes.get(parent);
    if (directory === undefined) return -ESTALE;
    return this.putCreated(createUnnamed(this.upper, directory, this.object(wanted, caller)), flags, out);
  }

  private object({ mode, umask, rdev, target }: NewNode, { uid, gid }: Caller): NewObject {
    const { owners } = this;
    if (owners === undefined) return { mode, umask, rdev, target, uid, gid };
    return { mode, umask, rdev, target, uid: owners.storedUid(uid), gid: owners.storedGid(gid) };
  }

  private putCreated(created: Created | number, openFlags: number, out: Out): number {
    if (typeof created === 'number') return created;
    const { node, fd } = created;
    const nodeid = this.nodes.remember(node);
    const { handle, flags, backingId } = this.grant(this.files.add(nodeid, node, fd, true), openFlags);
    const entryBytes = this.putEntry(nodeid, node, out, true);
    return entryBytes + reply.putOpenOut(out.view, entryBytes, handle, flags, backingId);
  }

  /** @param isNew whether the object was made just now */
  private putEntry(nodeid: Nodeid, node: UpperNode, out: Out, isNew = false): number {
    const attr = this.attr(node, isNew);
    return reply.putEntryOut(out.view, 0, nodeid, 0, this.cache.entrySeconds, this.attrSeconds(nodeid), attr);
  }

  link(nodeid: Nodeid, parent: Nodeid, name: ByteString, out: Out, unique: Unique): number {
    const [node, directory] = [this.nodes.get(nodeid), this.nodes.get(parent)];
    if (node === undefined || directory === undefined) return -ESTALE;
    const answer: Answer = later => this.linkNow(node, directory, name, later);
    return this.copies.begin(node, 'attributes', { unique, answer: () => answer }) ? DEFERRED : answer(out);
  }

  private linkNow(node: UpperNode, directory: UpperNode, name: ByteString, out: Out): number {
    const result = linkTo(this.upper, node, directory, name);
    if (result < 0) return result;
    this.upper.moved(node, { parent: directory, name }); // the older name is often a temporary one
    this.nodes.settle(node, { parent: directory, name });
    return this.putEntry(this.nodes.remember(node), node, out);
  }

  remove(parent: Nodeid, name: ByteString, isFolder: boolean, unique: Unique): number {
    const answer: Answer = () => this.removeNow(parent, name, isFolder);
    return this.waitsToBeCounted(parent, name, answer, unique) ? DEFERRED : this.removeNow(parent, name, isFolder);
  }

  /** Whether a name is not taken away yet, because its file must be copied first, for the index to count its names, and that takes long. */
  private waitsToBeCounted(parent: Nodeid, name: ByteString, answer: Answer, unique: Unique): boolean {
    const end = this.upper.overlay.index ? this.end(parent, name) : undefined;
    const node = typeof end === 'object' ? end.node : undefined;
    if (node === undefined || !isCounted(this.upper, node)) return false;
    return this.copies.begin(node, 'attributes', { unique, answer: () => answer });
  }

  private removeNow(parent: Nodeid, name: ByteString, isFolder: boolean): number {
    const directory = this.nodes.get(parent);
    if (directory === undefined) return -ESTALE;
    const node = this.child(directory, name);
    if (typeof node === 'number') return node;
    if (isFolder !== isDirectory(node.top.mode)) return isFolder ? -ENOTDIR : -EISDIR;
    return remove(this.upper, directory, name, node);
  }

  rename(
    parent: Nodeid,
    name: ByteString,
    newParent: Nodeid,
    newName: ByteString,
    flags: number,
    unique: Unique,
  ): number {
    const from = this.end(parent, name);
    if (typeof from === 'number') return from;
    if (from.node === undefined) return -ENOENT;
    const answer: Answer = () => this.renameNow(parent, name, newParent, newName, flags);
    if (this.copies.begin(from.node, 'attributes', { unique, answer: () => answer })) return DEFERRED;
    if (this.waitsToBeCounted(newParent, newName, answer, unique)) return DEFERRED;
    return this.renameNow(parent, name, newParent, newName, flags);
  }

  private renameNow(parent: Nodeid, name: ByteString, newParent: Nodeid, newName: ByteString, flags: number): number {
    const from = this.end(parent, name);
    if (typeof from === 'number') return from;
    const to = this.end(newParent, newName);
    return typeof to === 'number' ? to : rename(this.upper, from, to, flags);
  }

  private end(parent: Nodeid, name: ByteString): End | number {
    const directory = this.nodes.get(parent);
    if (directory === undefined) return -ESTALE;
    const node = this.child(directory, name);
    if (typeof node === 'number' && node !== -ENOENT) return node;
    return { parent: directory, name, node: typeof node === 'number' ? undefined : node };
  }

  /** The node that a name leads to, or a negative errno. */
  private child(directory: UpperNode, name: ByteString): UpperNode | number {
    const known = this.nodes.at(directory, name);
    if (known) return known;
    const found = this.upper.overlay.lookup(directory, name);
    return typeof found === 'number' ? found : this.nodes.canonical(found, directory, name);
  }

  // ---- data --------------------------------------------------------------------------------------------------------

  /** Whether an open is of a file in the upper layer, or makes the file one. */
  opens(node: UpperNode, flags: number): boolean {
    return node.isComplete || (flags & O_ACCMODE) !== 0 || (flags & O_TRUNC) !== 0;
  }

  /** Opens a regular file. Writes an OpenOut. @returns its size, a negative errno, or DEFERRED. Throws as copyUp does. */
  open(nodeid: Nodeid, node: UpperNode, flags: number, killsPrivileges: boolean, out: Out, unique: Unique): number {
    if (!isRegular(node.top.mode)) return -EISDIR;
    if (forbidsOpen(node, flags)) return -EPERM;
    const answer: Answer = later => putOpened(later, this.openNow(nodeid, node, flags, killsPrivileges));
    const wants = (flags & O_TRUNC) === 0 ? 'data' : 'nothing';
    if (this.copies.begin(node, wants, { unique, answer: () => answer })) return DEFERRED;
    return answer(out);
  }

  /** A request that waited for a copy and can be answered now. */
  settled(): Settled | undefined {
    const settled = this.copies.settled();
    return settled && { unique: settled.unique, answer: out => settled.answer()(out) };
  }

  interrupt(unique: Unique): void {
    this.copies.interrupt(unique);
  }

  private openNow(nodeid: Nodeid, node: UpperNode, flags: number, killsPrivileges: boolean): OpenReply | number {
    const isWritten = (flags & O_ACCMODE) !== 0;
    const isCut = (flags & O_TRUNC) !== 0;
    if (isWritten || isCut) copyUp(this.upper, node, isCut ? 'nothing' : 'data'); // others open what is complete
    const file = this.files.open(nodeid, node, isWritten || isCut);
    if (typeof file === 'number') return file;
    const cut = isCut ? native.ftruncate(file.fd, 0) : 0;
    if (cut < 0) this.files.abandon(file);
    if (cut < 0) return cut;
    if (isCut && killsPrivileges) killPrivileges(this.upper, node);
    return this.grant(file, flags);
  }

  private grant(file: UpperFile, flags: number): OpenReply {
    if (isForAppending(file.node, flags)) return this.files.grantAppending(file);
    return this.files.grant(file, this.lowerFiles.isOpen(file.nodeid), (flags & O_ACCMODE) === O_RDWR);
  }

  /** @returns whether the handle was one of a file in the upper layer */
  release(handle: number): boolean {
    return this.files.release(handle);
  }

  /** The directory of a node; undefined for the root. */
  parentOf(node: Node): UpperNode | undefined {
    return (node as UpperNode).place?.parent;
  }

  /** Must be called when a node has become one of the upper layer: its change time, blocks and links differ. */
  copiedUp(node: UpperNode): void {
    this.nodes.changed(node);
    const nodeid = this.nodes.idOf(node);
    if (nodeid !== undefined && node !== this.answered) this.attributesChanged(nodeid);
  }

  /** Must be called when the kernel has forgotten a node. */
  forgotten(node: UpperNode): void {
    if (node.isUpper) this.upper.layer.release(node.top);
  }

  close(): void {
    this.files.closeAll();
    this.roots.close();
  }
}

function timesWanted({ atime, mtime }: Setattr): Times | undefined {
  if (atime === undefined && mtime === undefined) return undefined;
  const [first, second] = [timespec(atime), timespec(mtime)];
  return { atime: first.seconds, atimensec: first.nanoseconds, mtime: second.seconds, mtimensec: second.nanoseconds };
}

function timespec(time: NewTime): Exclude<NewTime, 'now' | undefined> {
  if (time === undefined) return { seconds: 0, nanoseconds: UTIME_OMIT };
  return time === 'now' ? { seconds: 0, nanoseconds: UTIME_NOW } : time;
}
