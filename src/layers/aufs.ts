/**
 * A directory whose whiteouts are files: `.wh.NAME` hides NAME, and `.wh..wh..opq` makes a directory opaque, as container engines
 * extract layers where a FUSE filesystem mounts them. This layer shows them as whiteouts and xattrs of overlayfs.
 * Source: OCI image specification, layer.md, "Whiteouts"; fuse-overlayfs(1).
 */
import { type ByteString, bufferOf } from '../sys/bytes.ts';
import { DT_CHR, S_IFCHR } from '../sys/stat.ts';
import type { LayerContext } from './context.ts';
import { DirLayer } from './dir.ts';
import type { Inode } from './layer.ts';

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

  /** @param opaque the xattrs of overlayfs that make a directory opaque */
  constructor(path: ByteString, attrSeconds: number, context: LayerContext, opaque: readonly ByteString[]) {
    super(path, attrSeconds, context);
    this.hiddenMs = attrSeconds * 1000;
    this.opaqueNames = opaque;
  }

  override lookup(directory: Inode, name: ByteString): Inode | undefined {
    if (name.startsWith(PREFIX)) return undefined;
    if (!this.hidden(directory).names.has(name)) return super.lookup(directory, name);
    return { layer: this, ino: directory.ino, mode: S_IFCHR, rdev: 0, sizeBytes: 0 };
  }

  override readdir(directory: Inode, visit: (name: ByteString, dtype: number) => void): boolean {
    const { names } = this.hidden(directory);
    super.readdir(directory, (name, dtype) => {
      if (!name.startsWith(PREFIX) && !names.has(name)) visit(name, dtype);
    });
    for (const name of names) visit(name, DT_CHR);
    return false;
  }

  override getxattr(inode: Inode, name: ByteString): Uint8Array | undefined {
    return this.isOpaque(inode, name) ? YES : super.getxattr(inode, name);
  }

  private isOpaque(inode: Inode, name: ByteString): boolean {
    if (!this.opaqueNames.includes(name)) return false;
    if (this.hidden(inode).isOpaque) return true;
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
