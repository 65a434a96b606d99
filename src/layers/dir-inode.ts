/**
 * One object of a directory layer, that is, one inode. Its name is the one under which it was found, which may lead to another
 * object by now.
 */
import type { ByteString } from '../sys/bytes.ts';
import type { Attr } from '../sys/stat.ts';
import * as sx from '../sys/statx.ts';
import type { Inode, Layer } from './layer.ts';
import type { StoredStat } from './stored-stat.ts';

/**
 * The maximum time for the kernel to ask again after ESTALE. The kernel does so at once, but this process may be slow to read the
 * request.
 */
const RETRY_MS = 1000;

export class DirInode implements Inode {
  readonly layer: Layer;
  readonly ino: number;
  /** The birth time of the object, or its file handle if there is none. */
  readonly birth: ByteString;
  /** Type and permission bits of the inode itself. */
  readonly ownMode: number;
  mode: number;
  rdev: number;
  /** The owner, mode and device number that the layer has stored for the object, in place of those of its inode. */
  stored: StoredStat | undefined;
  readonly protection: number;
  /** The directory and the name under which the object was found last. */
  parent: DirInode | undefined;
  name: ByteString;
  isStale = false;
  /** When ESTALE was last reported for the object, by performance.now. */
  staleAtMs = Number.NEGATIVE_INFINITY;
  moves = 0;
  /** The attributes that were reported last, and when they were read, by performance.now. */
  attr: Attr;
  attrAtMs: number;
  /** The ACL that was reported last, '' if there was none, and the change time of the object before that. */
  acl: { readonly value: ByteString; readonly changed: sx.Changed } | undefined;
  /** The names of the xattrs, each terminated by a NUL, and when they were read; undefined: not read yet, or not readable. */
  xattrNames: ByteString | undefined;
  xattrNamesAtMs = 0;
  /** A descriptor (O_PATH) of an object that this process has deprived of the name under which it was found; -1: none. */
  keptFd = -1;

  /** Takes the attributes from the last statx. */
  constructor(layer: Layer, parent: DirInode | undefined, name: ByteString, ino: number, birth: ByteString) {
    this.layer = layer;
    this.parent = parent;
    this.name = name;
    this.ino = ino;
    this.birth = birth;
    this.ownMode = sx.statxMode();
    this.mode = this.ownMode;
    this.rdev = sx.statxRdev();
    this.protection = sx.statxProtection();
    this.attr = sx.statxAttr(ino);
    this.attrAtMs = performance.now();
    this.acl = undefined;
    this.stored = undefined;
    this.xattrNames = undefined;
  }

  get sizeBytes(): number {
    return this.attr.size;
  }

  isSame(other: DirInode): boolean {
    return this.ino === other.ino && this.birth === other.birth;
  }

  /** Whether the known path to another inode leads through this one. */
  isAbove(other: DirInode): boolean {
    for (let at = other.parent; at; at = at.parent) if (at === this) return true;
    return false;
  }

  /** Takes the name and the attributes of another inode of the same object, which was found later. */
  follow(found: DirInode): void {
    if (this.parent !== found.parent || this.name !== found.name) this.moves++;
    this.parent = found.parent;
    this.name = found.name;
    this.attr = found.attr;
    this.stored = found.stored;
    this.attrAtMs = found.attrAtMs;
    this.isStale = false;
  }

  /** Whether ESTALE was reported a moment ago, so that the caller is likely to be retrying without a name to look up. */
  get wasJustStale(): boolean {
    return this.isStale && performance.now() - this.staleAtMs < RETRY_MS;
  }

  /** @param names of the xattrs at present */
  rememberXattrNames(names: ByteString | undefined): void {
    this.xattrNames = names;
    this.xattrNamesAtMs = performance.now();
  }

  rememberAcl(value: ByteString): void {
    const { ctime, ctimensec } = this.attr;
    this.acl = { value, changed: { ctime, ctimensec } };
  }

  /**
   * Whether the last statx, of this object, shows a change time that was reported before and that no later change can have. The
   * object then has the same name, mode, owner and ACL.
   * On a filesystem where a rename is no change, the new name is seen later.
   */
  get isUnchanged(): boolean {
    const { acl, attr } = this;
    return sx.statxChangedIs(attr) && (acl === undefined || sx.statxChangedIs(acl.changed)) && sx.statxIsSettled();
  }

  /** Takes the attributes from the last statx. */
  refresh(): void {
    this.attr = sx.statxAttr(this.ino);
    this.attrAtMs = performance.now();
    if (this.stored) this.show(this.stored);
  }

  /** Takes what the layer has stored, from now on in place of the attributes of the inode. */
  show(stored: StoredStat | undefined): void {
    this.stored = stored;
    if (stored === undefined) return;
    this.mode = stored.mode;
    this.rdev = stored.rdev;
    Object.assign(this.attr, stored);
  }

  /** The path from the layer's root, for messages. */
  get path(): ByteString {
    return this.parent?.pathOf(this.name) ?? '/';
  }

  /** The path of a name in this directory, from the layer's root. */
  pathOf(name: ByteString): ByteString {
    const path: ByteString[] = [name];
    for (let at: DirInode | undefined = this; at; at = at.parent) path.push(at.name);
    return path.reverse().join('/');
  }
}
