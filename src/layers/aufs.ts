/**
 * A directory whose whiteouts are files: `.wh.NAME` hides NAME, and `.wh..wh..opq` makes a directory opaque, as container engines
 * extract layers where a FUSE filesystem mounts them. This layer shows them as whiteouts and xattrs of overlayfs.
 * Source: OCI image specification, layer.md, "Whiteouts"; fuse-overlayfs(1).
 */
import { type ByteString, bufferOf } from '../sys/bytes.ts';
import { DT_CHR, isDirectory, S_IFCHR } from '../sys/stat.ts';
import type { LayerContext } from './context.ts';
import { DirLayer } from './dir.ts';
import type { DirInode } from './dir-inode.ts';
import type { OpenedRoot } from './dir-objects.ts';
import type { Inode } from './layer.ts';
import type { StatSource } from './stored-stat.ts';

const PREFIX: ByteString = '.wh.';
/** Names with this prefix hide nothing: `.wh..wh..opq` is the only one with a meaning. */
const RESERVED: ByteString = '.wh..wh.';
const OPAQUE: ByteString = '.wh..wh..opq';
/** How fuse-overlayfs marks opaque directories where it cannot set trusted xattrs. */
const OPAQUE_XATTR: ByteString = 'user.fuseoverlayfs.opaque';
const YES = bufferOf('y');

/** The whiteouts of one directory, and the time of reading them, by performance.now. */
interface Hidden {
  readonly names: ReadonlySet<ByteString>;
  readonly isOpaque: boolean;
  readonly atMs: number;
}

export class AufsLayer extends DirLayer {
  private readonly hiddenMs: number;
  private readonly opaqueNames: readonly ByteString[];
  private readonly known = new WeakMap<Inode, Hidden>();

  /**
   * @param attrSeconds as for a directory; whiteouts are remembered as long
   * @param source as for a directory
   * @param opaque the xattrs of overlayfs that make a directory opaque; without any, the layer is a directory like others
   */
  constructor(
    path: ByteString,
    attrSeconds: number,
    context: LayerContext,
    opaque: readonly ByteString[],
    opened?: OpenedRoot,
    source?: StatSource,
  ) {
    super(path, attrSeconds, context, opened, source);
    this.hiddenMs = opened ? Number.POSITIVE_INFINITY : attrSeconds * 1000;
    this.opaqueNames = opaque;
  }

  /** An object of the directory itself counts more than a whiteout, which is only for layers below. */
  override lookup(directory: Inode, name: ByteString): Inode | undefined {
    if (this.opaqueNames.length === 0) return super.lookup(directory, name);
    if (name.startsWith(PREFIX)) return undefined;
    const found = super.lookup(directory, name);
    if (found !== undefined || !this.hidden(directory).names.has(name)) return found;
    return { layer: this, ino: directory.ino, mode: S_IFCHR, rdev: 0, sizeBytes: 0 };
  }

  override readdir(directory: Inode, visit: (name: ByteString, dtype: number) => void): boolean {
    if (this.opaqueNames.length === 0) return super.readdir(directory, visit);
    const names = new Set(this.hidden(directory).names);
    super.readdir(directory, (name, dtype) => {
      if (name.startsWith(PREFIX)) return;
      names.delete(name);
      visit(name, dtype);
    });
    for (const name of names) visit(name, DT_CHR);
    return false;
  }

  override isDevice0(directory: Inode, name: ByteString): boolean {
    return (this.opaqueNames.length > 0 && this.hidden(directory).names.has(name)) || super.isDevice0(directory, name);
  }

  override getxattr(inode: Inode, name: ByteString): Uint8Array | undefined {
    return this.isOpaque(inode, name) ? YES : super.getxattr(inode, name);
  }

  private isOpaque(inode: Inode, name: ByteString): boolean {
    if (!this.opaqueNames.includes(name) || !isDirectory(inode.mode)) return false;
    const { parent, name: own } = inode as DirInode;
    if (this.hidden(inode).isOpaque || (parent && this.hidden(parent).names.has(own))) return true;
    const value = super.getxattr(inode, OPAQUE_XATTR);
    return value?.length === 1 && value[0] === YES[0];
  }

  private hidden(directory: Inode): Hidden {
    const known = this.known.get(directory);
    if (known && performance.now() - known.atMs < this.hiddenMs) return known;
    const names = new Set<ByteString>();
    let isOpaque = false;
    super.readdir(directory, name => {
      if (name === OPAQUE) isOpaque = true;
      else if (name.startsWith(PREFIX) && !name.startsWith(RESERVED)) names.add(name.slice(PREFIX.length));
    });
    const hidden: Hidden = { names, isOpaque, atMs: performance.now() };
    this.known.set(directory, hidden);
    return hidden;
  }
}
