/**
 * Reads the upper layer of a stack as a tree, to make an image that takes its place above the same lower layers.
 *
 * ```
 * in the upper layer                          in the image
 * whiteout, of any kind                       character device 0:0
 * opaque or redirected directory              the same xattr
 * file with data                              metacopy, redirect=/ab/cd…: an object, or inline if it is small
 * metacopy                                    metacopy with the digest and the redirect that it has
 * metacopy with an absolute redirect          metacopy with its digest, redirect=/ab/cd…: where the data is
 * xattrs that others see                      escaped, as they were
 * file in the index                           one inode for all names, also for those that only layers below have
 * ```
 * In a stack of images, an absolute redirect of a metacopy leads to data-only layers, except in the upper layer: there, it is the
 * path of a file that was renamed. So the image has the path of the data instead, or the data.
 */
import { newInode, setPayload, type TreeInode } from '../composefs/tree.ts';
import type { Inode } from '../layers/layer.ts';
import { parseDigest } from '../overlay/metacopy.ts';
import type { Node } from '../overlay/node.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { isAbsolute } from '../overlay/redirect.ts';
import { hasOrigin, isWhiteout, opaqueness } from '../overlay/step.ts';
import { OverlayXattrs } from '../overlay/xattrs.ts';
import { type ByteString, bufferOf, byteStringOf } from '../sys/bytes.ts';
import { isDirectory, S_IFCHR } from '../sys/stat.ts';
import { lowerLinks } from './lower-links.ts';
import { type TreeOptions, TreeReader, type Waiting } from './tree-reader.ts';

/** The names in an image, whatever the upper layer has: any mount may read `trusted.*` in an image. */
const IN_IMAGE = new OverlayXattrs(false);
const NO_BYTES = new Uint8Array(0);

/**
 * Reads the tree of the top layer of an overlay, which has to be an upper one, and adds the data of its files to a store.
 * Throws ErrnoError with the path: of a lookup, of data that is missing or wrong, and of the store.
 */
export function readUpper(overlay: Overlay, options: TreeOptions): TreeInode {
  return new UpperReader(overlay, options).run();
}

class UpperReader extends TreeReader {
  /** For the path of a directory, further names that the image must have. */
  private readonly lowerLinks: ReadonlyMap<ByteString, ReadonlySet<ByteString>>;

  constructor(overlay: Overlay, options: TreeOptions) {
    super(overlay, options);
    this.lowerLinks = lowerLinks(overlay);
  }

  private get stored(): OverlayXattrs {
    return this.overlay.rules.xattrs;
  }

  protected override readNames(at: Waiting): void {
    this.readUpperNames(at);
    for (const name of this.lowerLinks.get(at.path) ?? []) this.add(at, name);
  }

  private readUpperNames(at: Waiting): void {
    const { top } = at.node;
    if (!top.layer.isUpper) return;
    const names: ByteString[] = [];
    top.layer.readdir(top, name => names.push(name));
    for (const name of names) {
      const found = top.layer.lookup(top, name);
      if (found === undefined) continue; // removed since it was listed
      if (isWhiteout(this.stored, found)) at.inode.entries.set(name, { inode: whiteoutIn(at.inode), link: false });
      else this.add(at, name);
    }
  }

  protected override readXattrs(node: Node, inode: TreeInode, shown: string): void {
    const { overlay } = this;
    for (const name of overlay.listxattr(node)) {
      const [value, stored] = [overlay.getxattr(node, name), IN_IMAGE.stored(name)];
      if (typeof value !== 'number' && typeof stored !== 'number') this.set(inode, stored, value, shown);
    }
    if (isDirectory(inode.mode) && node.top.layer.isUpper && node !== overlay.root) this.readMarks(node, inode, shown);
  }

  /** Gives a directory the xattrs that say what is below it. */
  private readMarks({ top, stack }: Node, inode: TreeInode, shown: string): void {
    const { stored } = this;
    const isOpaque = opaqueness(stored, top) === 'y';
    const redirect = isOpaque ? undefined : top.layer.getxattr(top, stored.redirect);
    if (isOpaque) this.set(inode, IN_IMAGE.opaque, bufferOf('y'), shown);
    if (redirect !== undefined) this.set(inode, IN_IMAGE.redirect, redirect, shown);
    const hidesWhiteouts = stack.length === 1 && top.layer.xattrBytes(top, stored.origin) >= 0;
    if (hidesWhiteouts) this.set(inode, IN_IMAGE.origin, NO_BYTES, shown); // any value does that
  }

  protected override readFile(node: Node, inode: TreeInode, shown: string): void {
    const { data } = node;
    const isInImage = typeof data === 'object' && data.layer.kind === 'image';
    if (data === undefined || (isInImage && this.isByRoot(node))) super.readFile(node, inode, shown);
    else this.readMetacopy(node, inode, shown);
  }

  /** Whether a metacopy names the file below it by the path from the root. */
  private isByRoot({ top }: Node): boolean {
    const redirect = top.layer.getxattr(top, this.stored.redirect);
    return redirect !== undefined && isAbsolute(byteStringOf(redirect));
  }

  /** Leaves the data of a metacopy where it is. */
  private readMetacopy(node: Node, inode: TreeInode, shown: string): void {
    const { top, data } = node;
    const { stored } = this;
    const redirect = top.layer.getxattr(top, stored.redirect);
    const origin = this.originOf(node);
    inode.digest = digestIn(top, stored);
    if (typeof data === 'string' && (this.isByRoot(node) || origin)) setPayload(inode, data.replace(/^\/+/, ''));
    else if (redirect !== undefined) this.set(inode, IN_IMAGE.redirect, redirect, shown);
    if (origin === undefined) return;
    inode.origin = byteStringOf(origin.layer.getxattr(origin, stored.origin) ?? NO_BYTES);
    inode.digest ??= digestIn(origin, stored);
  }

  /** The metacopy below that a search may follow to a file's data by its origin: only the first metacopy of a search is. */
  private originOf({ data, origin }: Node): Inode | undefined {
    return typeof data === 'string' && origin && hasOrigin(this.stored, origin) ? origin : undefined;
  }
}

/** The digest of a metacopy in hex. Throws ErrnoError EIO for a malformed value, as an open of the file does. */
function digestIn(inode: Inode, { metacopy }: OverlayXattrs): string | undefined {
  const digest = parseDigest(inode.layer.getxattr(inode, metacopy) ?? NO_BYTES);
  return digest && Buffer.from(digest.bytes).toString('hex');
}

/** A whiteout, with the owner and the time of its directory. */
const whiteoutIn = ({ uid, gid, mtime, mtimensec }: TreeInode): TreeInode =>
  Object.assign(newInode(S_IFCHR), { uid, gid, mtime, mtimensec });
