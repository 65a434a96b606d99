/** One object of a directory layer, which is an inode: its name is where it was found, and may lead to another one by now. */
import type { ByteString } from '../sys/bytes.ts';
import type { Attr } from '../sys/stat.ts';
import * as sx from '../sys/statx.ts';
import type { Inode, Layer } from './layer.ts';

/** How long the kernel takes at most to ask again after ESTALE. It does so at once, but this process may be slow to read it. */
const RETRY_MS = 1000;

export class DirInode implements Inode {
  readonly layer: Layer;
  readonly ino: number;
  /** When it was made, or else its file handle. */
  readonly birth: ByteString;
  readonly mode: number;
  readonly rdev: number;
  /** Where it was found last. */
  parent: DirInode | undefined;
  name: ByteString;
  isStale = false;
  /** When that was said last. */
  staleAtMs = Number.NEGATIVE_INFINITY;
  moves = 0;
  /** What whoever asks for attributes was told last, and when that was so, by performance.now. */
  attr: Attr;
  attrAtMs: number;
  /** The ACL that whoever asks was told last, '' where there is none, and the change time of the object before that. */
  acl: { readonly value: ByteString; readonly changed: sx.Changed } | undefined;
  /** The names of its xattrs, each ended by a NUL, and when; undefined: not asked, or not to be had. */
  xattrNames: ByteString | undefined;
  xattrNamesAtMs = 0;

  /** Takes what the last statx has told. */
  constructor(layer: Layer, parent: DirInode | undefined, name: ByteString, ino: number, birth: ByteString) {
    this.layer = layer;
    this.parent = parent;
    this.name = name;
    this.ino = ino;
    this.birth = birth;
    this.mode = sx.statxMode();
    this.rdev = sx.statxRdev();
    this.attr = sx.statxAttr(ino);
    this.attrAtMs = performance.now();
    this.acl = undefined;
    this.xattrNames = undefined;
  }

  get sizeBytes(): number {
    return this.attr.size;
  }

  isSame(other: DirInode): boolean {
    return this.ino === other.ino && this.birth === other.birth;
  }

  /** Whether the way to another inode leads through this one, as far as is known. */
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
    this.attrAtMs = found.attrAtMs;
    this.isStale = false;
  }

  /** Whether whoever asks now is likely to have been told a moment ago that it is stale, and to have no name to look up again. */
  get wasJustStale(): boolean {
    return this.isStale && performance.now() - this.staleAtMs < RETRY_MS;
  }

  /** @param names of its xattrs, as they are now */
  rememberXattrNames(names: ByteString | undefined): void {
    this.xattrNames = names;
    this.xattrNamesAtMs = performance.now();
  }

  rememberAcl(value: ByteString): void {
    const { ctime, ctimensec } = this.attr;
    this.acl = { value, changed: { ctime, ctimensec } };
  }

  /**
   * Whether the last statx, of this object, shows a change time that was told before, and that no later change can have: it has the
   * same name, mode, owner and ACL. A filesystem that does not count a rename as a change shows the new name later.
   */
  get isUnchanged(): boolean {
    return sx.statxChangedIs(this.attr) && sx.statxIsSettled();
  }

  /** Takes the attributes that the last statx has told. */
  refresh(): void {
    this.attr = sx.statxAttr(this.ino);
    this.attrAtMs = performance.now();
  }

  /** The path from the layer's root, for messages. */
  get path(): ByteString {
    return this.parent?.pathOf(this.name) ?? '/';
  }

  /** The path of a name in this directory. */
  pathOf(name: ByteString): ByteString {
    const path: ByteString[] = [name];
    for (let at: DirInode | undefined = this; at; at = at.parent) path.push(at.name);
    return path.reverse().join('/');
  }
}
