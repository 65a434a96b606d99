/**
 * A stack of layers as one tree: it takes names, and gives nodes and bytes. It knows nothing of mounts; a FUSE session is one of
 * its users.
 */
import { contextOfSingles, type LayerContext } from '../layers/context.ts';
import type { Data, Inode, Layer } from '../layers/layer.ts';
import type { ByteString } from '../sys/bytes.ts';
import type { Counters } from '../sys/counters.ts';
import { EINVAL, EIO, ENOENT, ENOTTY, ErrnoError, ESTALE } from '../sys/errno.ts';
import { type Attr, isDirectory, type Statfs } from '../sys/stat.ts';
import { DEFAULT_MEMORY, DentryCache, type Memory } from './cache.ts';
import type { LinkIndex } from './hard-links/link-index.ts';
import type { IndexObstacle } from './hard-links/obstacle.ts';
import { InodeNumbers } from './ino.ts';
import { type Listing, NumberedListing, PositionedListing } from './listing.ts';
import { type Found, lookup, lookupInode, type Stack } from './lookup.ts';
import { Lowerdata } from './lowerdata.ts';
import type { Node } from './node.ts';
import type { RuleOptions } from './options/rules.ts';
import { OriginInodes } from './origin-ino.ts';
import { type Entry, listMerged, listReal } from './readdir.ts';
import { type Judge, opaqueness, type Rules, step } from './step.ts';
import type { Trace } from './trace.ts';
import { type Check, Verifier } from './verifier.ts';
import { missingXattr, OverlayXattrs } from './xattrs.ts';

/**
 * A stack of open layers. Lookup begins at `root` and proceeds name by name; `findPath` does that for a path.
 * Lookup results are cached, so a change in a layer may not show.
 * @example
 * const overlay = new Overlay([openLayer('image.cfs')], [openLayer('tree')], settleRules());
 * const poem = overlay.lookup(overlay.root, 'poem');
 * assert.equal(typeof poem === 'object' && poem.data, '/poem');
 * overlay.close();
 */
export class Overlay implements Stack {
  readonly rules: Rules;
  readonly judge: Judge;
  readonly roots: readonly Inode[];
  readonly root: Node;
  /** Whether nothing in the tree can change: all normal layers are images. */
  readonly immutable: boolean;
  /** Whether `recall` finds every node again by its number alone: the only normal layer is an image. */
  readonly recalls: boolean;
  /** The copies of lower files with several names, if the upper layer has an index. It is set before the first lookup. */
  index: LinkIndex | undefined;
  /** Why there is no index although `index=on` was given. */
  indexObstacle: IndexObstacle | undefined;
  /** Receives the steps of each lookup while it is set. */
  trace: Trace | undefined;
  /** The normal layers, top first; `dataLayers` are the data-only ones, in order. */
  readonly layers: readonly Layer[];
  readonly dataLayers: readonly Layer[];
  readonly options: RuleOptions;
  private readonly positions = new Map<Layer, number>();
  private readonly xwhiteoutLayers = new Set<Layer>();
  private readonly numbers: InodeNumbers;
  /** Finds what objects of the upper layer are copies of; absent if nothing is written to. */
  private readonly origins: OriginInodes | undefined;
  private readonly lowerdata: Lowerdata;
  private readonly verifier: Verifier;
  private readonly memory: Memory;
  private readonly context: LayerContext;
  private sharesDataLayers = false;
  /** Absent if no cache is wanted, and if the only normal layer is an image, where a lookup is as cheap as the cache. */
  private readonly dentries: DentryCache | undefined;

  /**
   * Takes over open layers. Throws ErrnoError EIO if no layer is a normal one.
   * @param layers the normal layers, top first
   * @param dataLayers the data-only layers, in order
   * @param judge a rule to use in place of the kernel's
   * @param memory how much is remembered here; the time for which attributes are remembered was given to the layers at their
   *   opening
   * @param context that of the layers, if they were opened in one
   */
  constructor(
    layers: readonly Layer[],
    dataLayers: readonly Layer[],
    options: RuleOptions,
    judge: Judge = step,
    memory: Memory = DEFAULT_MEMORY,
    context: LayerContext = contextOfSingles(),
  ) {
    this.memory = memory;
    this.context = context;
    this.options = options;
    this.judge = judge;
    this.layers = layers;
    this.dataLayers = dataLayers;
    this.rules = {
      xattrs: new OverlayXattrs(options.userxattr),
      metacopy: options.metacopy,
      follow: options.redirectDir === 'follow',
      hasDataLayers: dataLayers.length > 0,
      dataRedirects: options.semantics !== 'kernel',
      dataOnly: options.redirects !== 'kernel',
      followOrigin: options.followOrigin && options.semantics !== 'kernel' && !options.userxattr,
    };
    this.roots = layers.map(layer => layer.root);
    for (const [position, layer] of layers.entries()) this.positions.set(layer, position);
    this.immutable = layers.every(layer => layer.kind === 'image');
    this.recalls = this.immutable && layers.length === 1 && layers[0]?.recall !== undefined;
    this.dentries = memory.dentries === 0 || this.recalls ? undefined : new DentryCache(memory);
    this.numbers = new InodeNumbers(layers, options.ino32);
    const [upper, ...lowers] = layers;
    if (upper?.isUpper) this.origins = new OriginInodes(lowers, this.rules.xattrs);
    this.lowerdata = new Lowerdata(layers, dataLayers, this.rules.xattrs);
    this.verifier = new Verifier(this.rules.xattrs, options);
    this.root = this.rootNode();
  }

  /** The root merges all normal layers; opaque=x is read on every root but the lowest. */
  private rootNode(): Node {
    const [top] = this.roots;
    if (!top) throw new ErrnoError(EIO, 'a stack without a normal layer');
    const marked = this.roots.slice(0, -1).filter(root => opaqueness(this.rules.xattrs, root) === 'x');
    for (const root of marked) this.sawXwhiteouts(root.layer);
    const xwhiteouts = marked.length > 0;
    return { ino: this.numbers.of(top), top, stack: this.roots, data: undefined, origin: undefined, xwhiteouts };
  }

  /** Whether objects may have POSIX ACLs. The first answer may take a walk through an image. */
  get hasAcl(): boolean {
    return this.layers.some(layer => layer.hasAcl);
  }

  indexOf(layer: Layer): number {
    return this.positions.get(layer) as number;
  }

  sawXwhiteouts(layer: Layer): void {
    this.xwhiteoutLayers.add(layer);
  }

  /**
   * Looks up a name in a directory. @returns its node, or a negative errno as `lookup` of lookup.ts
   * Throws ErrnoError if a layer is corrupt or cannot be read.
   */
  lookup(parent: Node, name: ByteString): Node | number {
    const known = this.trace ? undefined : this.dentries?.get(parent, name);
    if (known !== undefined) return known;
    this.trace?.lookup(name);
    const found = lookup(this, parent.stack, name);
    const node = typeof found === 'number' ? found : this.node(found);
    this.trace?.outcome(node);
    if (typeof node !== 'number' || node === -ENOENT) this.remember(parent, name, node);
    return node;
  }

  /** Makes a name lead to `node` from now on: a node that the caller already has for the object that was found, or -ENOENT. */
  remember(parent: Node, name: ByteString, node: Node | number): void {
    this.dentries?.set(parent, name, node);
  }

  /**
   * The node of a number that a lookup found or that an entry of a listing has; only where `recalls`.
   * @returns as `lookup`, and throws as it does
   */
  recall(ino: number): Node | number {
    const inode = this.layers[0]?.recall?.(ino);
    if (inode === undefined) throw new ErrnoError(EIO, 'a stack that does not recall its nodes');
    const found = lookupInode(this, inode);
    return typeof found === 'number' ? found : this.node(found);
  }

  /**
   * The node of a number that comes from outside, in a file handle, or the directory above that node; only where `recalls`.
   * @returns as `lookup`; -ESTALE if no name leads to the node. Throws as `lookup` does
   */
  recallHandle(ino: number, isParent: boolean): Node | number {
    const [layer] = this.layers;
    if (!layer?.holds?.(ino)) return -ESTALE;
    const node = this.recall(ino);
    if (!isParent || typeof node === 'number') return node;
    const above = isDirectory(node.top.mode) ? layer.parent?.(node.top) : undefined;
    return above && isDirectory(above.mode) && layer.holds(above.ino) ? this.recall(above.ino) : -ESTALE;
  }

  /** The inode number of an object itself, whatever it is a copy of. */
  inoOf(object: Inode): number {
    return this.numbers.of(object);
  }

  /** The node of an inode that has nothing below it. */
  nodeOf(top: Inode): Node {
    return this.node({ stack: [top], data: undefined, origin: undefined, xwhiteouts: false });
  }

  private node(found: Found): Node {
    const { stack, data, origin, xwhiteouts } = found;
    const top = stack[0] as Inode;
    const copied = top.layer.isUpper ? this.origins?.of(found) : undefined;
    const lower = top.layer.isUpper ? copied : top;
    const indexed = this.index?.find(found, lower);
    if (indexed) {
      this.trace?.rule('U1', indexed.indexed.name);
      const [copy] = indexed.stack;
      return { ...indexed, ino: this.numbers.of(lower ?? copy), top: copy, xwhiteouts };
    }
    // a lower file with several names may have several copies
    const shown = copied && (isDirectory(top.mode) || this.attrOf(copied).nlink === 1) ? copied : top;
    return { ino: this.numbers.of(shown), top, stack, data, origin, xwhiteouts };
  }

  /**
   * The attributes that stat shows: those of the top, except that a merged directory has one link and that blocks are those of
   * the data.
   * Like every call for a node, it throws ErrnoError ESTALE if an object is not where it was found; a new lookup then finds the
   * present object.
   * @param openFd an open file that may be the top; if it is, its name does not matter
   * @param isFresh whether the node was found or made just now, while the same request was answered
   */
  attr(node: Node, openFd?: number, isFresh?: boolean): Attr {
    const { top, data } = node;
    const attr = top.layer.attr(top, openFd, isFresh);
    attr.ino = node.ino;
    if (node.stack.length > 1) attr.nlink = 1;
    if (node.indexed) attr.nlink += node.indexed.otherLinks;
    if (data !== undefined) {
      attr.blocks = typeof data === 'string' ? estimatedBlocks(attr) : data.layer.attr(data).blocks;
    }
    return attr;
  }

  /** The attributes of an inode of a layer. */
  attrOf(inode: Inode): Attr {
    return inode.layer.attr(inode);
  }

  /** The target of a symlink, unchanged. Throws ErrnoError EINVAL for anything else. */
  readlink(node: Node): ByteString {
    return node.top.layer.readlink(node.top);
  }

  /**
   * Lists a directory. Whiteouts are left out of the root, a merged directory and one with an origin, but not of any other
   * directory.
   */
  list(node: Node): Entry[] {
    if (!this.isMerged(node)) return listReal(node.top);
    const hasXwhiteouts = (directory: Inode): boolean => node.xwhiteouts && this.xwhiteoutLayers.has(directory.layer);
    return listMerged(this.rules.xattrs, node.stack, hasXwhiteouts);
  }

  private isMerged(node: Node): boolean {
    const { top, stack } = node;
    return stack.length > 1 || top === this.root.top || top.layer.xattrBytes(top, this.rules.xattrs.origin) >= 0;
  }

  /**
   * The listing of a directory, which can be read in parts. @param before an older listing, whose readers may continue with this
   * one
   * Throws ErrnoError, ENOMEM if the directory has more names than this process can hold.
   */
  listing(node: Node, before?: Listing): Listing {
    const { layer } = node.top;
    if (layer.readdirFrom && !this.isMerged(node)) return new PositionedListing(node.top);
    return new NumberedListing(this.list(node), before);
  }

  /** The inode number of a directory's `..`; undefined unless `recalls`, or if the image has no `..` there. */
  parentIno({ top }: Node): number | undefined {
    return this.recalls ? top.layer.lookup(top, '..')?.ino : undefined;
  }

  /** The value of an xattr of the top, or -ENODATA, -EOPNOTSUPP or -EINVAL. */
  getxattr(node: Node, name: ByteString): Uint8Array | number {
    const stored = this.rules.xattrs.stored(name);
    if (typeof stored === 'number') return stored;
    return node.top.layer.getxattr(node.top, stored)?.slice() ?? missingXattr(name);
  }

  /** The reply to an ioctl for attributes of the top, or a negative errno; see Layer.fileAttributes. */
  fileAttributes({ top }: Node, kind: 'flags' | 'fsxattr'): Uint8Array | number {
    return top.layer.fileAttributes?.(top, kind) ?? -ENOTTY;
  }

  /** The xattr names of the top, without those of overlayfs itself. */
  listxattr(node: Node): ByteString[] {
    const { xattrs } = this.rules;
    return node.top.layer
      .listxattr(node.top)
      .map(name => xattrs.shown(name))
      .filter(name => name !== undefined);
  }

  /**
   * Opens a regular file's data and checks it, on this thread.
   * @returns the data, or a negative errno as `find` does
   * Throws ErrnoError as `find` and `check` do; EIO if the digest is wrong.
   */
  open(node: Node): Data | number {
    const data = this.find(node);
    if (typeof data === 'number') return data;
    try {
      const check = this.check(node, data);
      if (check && !check.known(false)) check.measure(false);
      return data;
    } catch (error) {
      data.close();
      throw error;
    }
  }

  /**
   * Finds a regular file's data. Data-only layers are searched only now, not at lookup.
   * @returns the data, unchecked, or -ENOENT, -ENOTDIR, -ELOOP, -EXDEV or -ENAMETOOLONG if no data-only layer has it
   */
  find(node: Node): Data | number {
    return this.lowerdata.find(node, this.trace);
  }

  /** The check that data from `find` must pass before it is used; see Verifier.check. */
  check(node: Node, data: Data): Check | undefined {
    return this.verifier.check(node, data, this.lowerdata.cameByOrigin(data));
  }

  /**
   * The check of a copy of the node's data, before it becomes data of its own.
   * @param from the data that was copied
   */
  checkCopy(node: Node, copy: Data, from: Data): Check | undefined {
    return this.verifier.check(node, copy, this.lowerdata.cameByOrigin(from));
  }

  /** Whether a directory has no names but whiteouts, in no layer. Throws as `list` does. */
  isEmpty({ stack, xwhiteouts }: Node): boolean {
    const hasXwhiteouts = (directory: Inode): boolean => xwhiteouts && this.xwhiteoutLayers.has(directory.layer);
    return listMerged(this.rules.xattrs, stack, hasXwhiteouts).length === 0;
  }

  /**
   * The statfs numbers of the top layer's filesystem, as in the kernel, or those of the first data-only layer with the top
   * layer's maximum name length.
   * Throws ErrnoError EINVAL if `data` is asked for and there is no data-only layer.
   */
  statfs(of: 'top' | 'data' = 'top'): Statfs {
    const top = (this.roots[0] as Inode).layer.statfs();
    if (of === 'top') return top;
    const [data] = this.dataLayers;
    if (!data) throw new ErrnoError(EINVAL, 'statfs=data: the stack has no data-only layer');
    return { ...data.statfs(), namelen: top.namelen };
  }

  /** An overlay of the same open layers with other rules. Only one of the two may be closed. */
  withRules(rules: Partial<RuleOptions>, judge: Judge = this.judge): Overlay {
    const options = { ...this.options, ...rules };
    const overlay = new Overlay(this.layers, this.dataLayers, options, judge, this.memory, this.context);
    overlay.index = this.index;
    return overlay;
  }

  /** The counters of the caches; `descriptors` counts for all layers of the stack. */
  get caches(): Readonly<Record<string, Counters>> {
    return {
      ...(this.dentries && { dentries: this.dentries.counts.counters }),
      digests: this.verifier.counts.counters,
      descriptors: this.context.descriptors.counts.counters,
    };
  }

  /** From now on, `close` leaves the data-only layers open: others use them, too. */
  shareDataLayers(): void {
    this.sharesDataLayers = true;
  }

  /** Closes all layers. */
  close(): void {
    const { index, layers, dataLayers } = this;
    for (const layer of this.sharesDataLayers ? layers : [...layers, ...dataLayers]) layer.close();
    if (index && !layers.includes(index.layer)) index.layer.close();
  }
}

/**
 * Estimates st_blocks of data that has not been found yet: the size in whole blocks, in units of 512 bytes. Source: kernel
 * ovl_getattr.
 */
const estimatedBlocks = ({ size, blksize }: Attr): number => (Math.ceil(size / blksize) * blksize) / 512;
