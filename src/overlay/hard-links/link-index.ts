/**
 * The index of an upper layer, with the option `index=on`: a directory that holds one copy for all names of a lower file. The copy
 * is named by the file handle of the lower file, and the names of that file in the upper directory are hard links of the copy.
 * Source: kernel fs/overlayfs/namei.c, ovl_lookup_index, and inode.c, ovl_get_nlink.
 *
 * ```
 * workdir/index/00fb1d00…   the copy, with overlay.origin 00fb1d00… and overlay.nlink U+0
 * upperdir/a                a hard link of it, made when the file was changed by the name a
 * lower/a, lower/b          what users see: both names lead to the copy, which has U+0 and 2 links
 * ```
 */
import type { Inode } from '../../layers/layer.ts';
import type { UpperLayer } from '../../layers/upper.ts';
import { type ByteString, byteStringOf, printable } from '../../sys/bytes.ts';
import { EIO, ErrnoError, ESTALE } from '../../sys/errno.ts';
import { isDirectory, isRegular, S_IFMT } from '../../sys/stat.ts';
import type { Found } from '../lookup.ts';
import type { IndexEntry, Node } from '../node.ts';
import { formatOrigin } from '../origin.ts';
import { hasMetacopy, isWhiteout } from '../step.ts';
import type { OverlayXattrs } from '../xattrs.ts';

/** What a name of a file in the index leads to. */
interface IndexedFile extends Pick<Node, 'data' | 'origin'> {
  /** The copy alone. */
  readonly stack: readonly [Inode];
  readonly indexed: IndexEntry;
}

export class LinkIndex {
  /** The layer whose inodes the copies are. */
  readonly layer: UpperLayer;
  readonly directory: Inode;
  private readonly xattrs: OverlayXattrs;

  /** @param layer the upper layer, or one of the index alone that is only read */
  constructor(layer: UpperLayer, directory: Inode, xattrs: OverlayXattrs) {
    this.layer = layer;
    this.directory = directory;
    this.xattrs = xattrs;
  }

  /** Whether a file of this type can be here: with userxattr, only regular files have the xattrs of a copy. */
  takes({ mode }: Pick<Inode, 'mode'>): boolean {
    return this.xattrs.userxattr ? isRegular(mode) : !isDirectory(mode);
  }

  /** The name that the copy of a lower file has here; undefined if the file has no handle. */
  nameOf(lower: Inode): ByteString | undefined {
    const origin = lower.layer.originOf?.(lower);
    return origin && entryName(formatOrigin(origin));
  }

  /**
   * Finds the file whose name a lookup found just now, as the lower file or as its copy in the upper layer.
   * @param lower the lower file that it is, or that it is a copy of, if that is known
   * @returns undefined if there is no copy here, or if the object in the upper layer is another one
   * Throws ErrnoError: EIO if something else has the name of the copy; ESTALE if the data of a metacopy file would be that of
   *   another lower file.
   */
  find(found: Found, lower: Inode | undefined): IndexedFile | undefined {
    const [top] = found.stack as readonly [Inode];
    if (isDirectory(top.mode)) return undefined;
    const { isUpper } = top.layer;
    if (isUpper && lower && found.lower && !isSame(lower, found.lower)) throw notOrigin(found.lower);
    if (storedLinks(top) === 1) return undefined;
    const name = isUpper ? this.nameInXattr(top) : this.nameOf(top);
    const copy = name === undefined ? undefined : this.layer.objectAt(this.directory, name);
    if (name === undefined || copy === undefined) return undefined;
    const isOther = isWhiteout(this.xattrs, copy) || (copy.mode & S_IFMT) !== (top.mode & S_IFMT);
    if (isOther) throw this.unusable(name, 'it is of another type than its origin');
    if (isUpper && !isSame(copy, top)) return undefined;
    const metacopy = isUpper ? found.data !== undefined : hasMetacopy(this.xattrs, copy);
    if (typeof metacopy === 'number') throw this.unusable(name, 'its xattr metacopy is invalid');
    const stored = storedLinks(copy);
    const indexed = { name, otherLinks: (this.linksOf(copy, lower) ?? stored) - stored };
    const { data = top, origin } = found;
    return { ...(metacopy ? { data, origin } : { data: undefined, origin: undefined }), stack: [copy], indexed };
  }

  private nameInXattr(copy: Inode): ByteString | undefined {
    const value = copy.layer.getxattr(copy, this.xattrs.origin);
    return value && value.length > 0 ? entryName(value) : undefined;
  }

  /**
   * How many links a file in the index has in all layers together, by `overlay.nlink`: relative to those of the copy (U) or, while
   * a link is made, to those of the lower file (L).
   * @param lower the lower file, if it is known
   * @returns undefined if that is not known
   */
  linksOf(copy: Inode, lower: Inode | undefined): number | undefined {
    const value = copy.layer.getxattr(copy, this.xattrs.nlink);
    const [, relative, difference] = /^([UL])([+-]\d{1,9})$/.exec(value ? byteStringOf(value) : '') ?? [];
    const base = relative === 'U' ? copy : relative === 'L' ? lower : undefined;
    const links = base === undefined ? 0 : storedLinks(base) + Number(difference);
    return links > 0 ? links : undefined;
  }

  /** The highest number of names that lead here, but not in the upper layer: only layers below have them. */
  lowerNames(): number {
    let count = 0;
    this.layer.readdir(this.directory, name => {
      const copy = this.layer.objectAt(this.directory, name);
      if (copy === undefined || !this.takes(copy) || isWhiteout(this.xattrs, copy)) return;
      const links = this.linksOf(copy, undefined) ?? Number.POSITIVE_INFINITY;
      count += links - storedLinks(copy) + 1; // one of the links of the copy is the name in the index
    });
    return count;
  }

  /** The error for an entry that cannot be used. */
  unusable(name: ByteString, why: string, errno: number = EIO): ErrnoError {
    return new ErrnoError(errno, `index of ${this.layer.path}: ${printable(name)}: ${why}`);
  }
}

/** The links that the layer itself counts for an inode that was found just now. */
const storedLinks = (inode: Inode): number => inode.layer.attr(inode, -1, true).nlink;

const isSame = (one: Inode, other: Inode): boolean =>
  one.layer.filesystem === other.layer.filesystem && one.ino === other.ino;

const notOrigin = ({ layer }: Inode): ErrnoError =>
  new ErrnoError(
    ESTALE,
    `layer ${layer.path}: a metacopy file was made from another file than the one that has its name`,
  );

/** The name of an entry: the value of the xattr origin in hexadecimal digits. */
const entryName = (origin: Uint8Array): ByteString => Buffer.from(origin).toString('hex');
