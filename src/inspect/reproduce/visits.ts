/** Draws a sketch of what the lookup of a path visits: the entries that layers were asked for, and the xattrs that were read. */
import type { Inode, Layer } from '../../layers/layer.ts';
import { hasDigest } from '../../overlay/metacopy.ts';
import type { Node } from '../../overlay/node.ts';
import { Overlay } from '../../overlay/overlay.ts';
import { findPath } from '../../overlay/path.ts';
import type { Judge } from '../../overlay/step.ts';
import type { Trace } from '../../overlay/trace.ts';
import type { ByteString } from '../../sys/bytes.ts';
import { attempt, ENOTDIR, ErrnoError } from '../../sys/errno.ts';
import { isDirectory, isRegular } from '../../sys/stat.ts';
import { measureBytes, parametersOf } from '../../verity/digest.ts';
import { answerOf } from './answer.ts';
import { CONTENT_BYTES, FOLLOWED, followPath, type LayerSketch, newSketch, type Sketch } from './sketch.ts';

/** The content of a file that an origin leads to: of the same size as all other content. */
export const ORIGIN_CONTENT = '0\n';

/** An overlay that notes by which names its objects were found. */
class Paths extends Overlay {
  readonly chains = new Map<Node, readonly ByteString[]>();
  /** The names of the last lookup, and whether it found something. */
  last: { names: readonly ByteString[]; isFound: boolean } = { names: [], isFound: true };

  override lookup(parent: Node, name: ByteString): Node | number {
    const names = [...(this.chains.get(parent) ?? []), name];
    this.last = { names, isFound: false };
    const found = super.lookup(parent, name);
    if (typeof found === 'number') return found;
    this.last = { names, isFound: true };
    if (!this.chains.has(found)) this.chains.set(found, names);
    return found;
  }
}

/**
 * The names that lead to what a path leads to, without symlinks, `.` and `..`; if it leads to nothing, the names up to the lookup
 * that failed.
 * Throws ErrnoError where no lookup failed but the path itself did, such as ELOOP, and if a layer cannot be read.
 */
export function namesOf(overlay: Overlay, path: ByteString): readonly ByteString[] {
  const paths = new Paths(overlay.layers, overlay.dataLayers, overlay.options, overlay.judge);
  const found = attempt(() => findPath(paths, path, false));
  if (!(found instanceof ErrnoError)) return paths.chains.get(found) ?? [];
  if (!paths.last.isFound) return paths.last.names;
  if (found.errno === ENOTDIR) return [...paths.last.names, 'x'];
  throw found;
}

/** The sketch of a stack, filled by lookups in it. */
export class Visits implements Trace {
  readonly layers: readonly LayerSketch[];
  private readonly overlay: Overlay;
  /** The sketch of each directory, by layer and inode number. */
  private readonly places = new Map<Layer, Map<number, Sketch>>();
  private readonly roots = new Map<string, { layer: Layer; root: Sketch; dataOnly: boolean }>();
  private parent: Node | undefined;
  private base: Sketch | undefined;
  private current: Sketch | undefined;

  constructor(overlay: Overlay) {
    this.overlay = overlay;
    const all = [...overlay.layers, ...overlay.dataLayers];
    this.layers = all.map((layer, i) => {
      const dataOnly = i >= overlay.layers.length;
      const root = newSketch();
      this.places.set(layer, new Map([[layer.root.ino, root]]));
      this.roots.set(layer.path, { layer, root, dataOnly });
      return { path: layer.path, dataOnly, root };
    });
  }

  /** Looks names up by the rules of an overlay of the same layers. Throws ErrnoError as a lookup does. */
  visit(rules: Overlay, names: readonly ByteString[]): void {
    const { options, judge } = rules;
    const watching: Judge = (rules, search, found, ...rest) => judge(rules, search, this.watch(found), ...rest);
    const overlay = new Overlay(this.overlay.layers, this.overlay.dataLayers, options, watching);
    overlay.trace = this;
    this.parent = overlay.root;
    let at = overlay.root;
    for (const name of names) {
      if (!isDirectory(at.top.mode)) return;
      this.parent = at;
      const found = overlay.lookup(at, name);
      if (typeof found === 'number') return;
      at = found;
    }
    if (isRegular(at.top.mode)) this.visitData(overlay, at, answerOf(rules, names).data.startsWith('origin'));
  }

  private visitData(overlay: Overlay, node: Node, isFollowed: boolean): void {
    const data = attempt(() => overlay.find(node));
    if (typeof data === 'object' && 'close' in data) data.close();
    const top = this.last;
    if (!node.origin || !top) return;
    const { metacopy, origin } = overlay.rules.xattrs;
    const value = node.top.layer.getxattr(node.top, origin);
    if (!value || !hasDigest(node.top.layer.getxattr(node.top, metacopy))) return;
    top.xattrs.set(origin, isFollowed ? FOLLOWED : value);
    if (!isFollowed) return;
    top.sizeBytes = CONTENT_BYTES;
    const opened = attempt(() => overlay.open(node)); // reads the data: whether it has the digest is part of the answer
    if (typeof opened === 'number' || opened instanceof ErrnoError) return;
    opened.close();
    top.xattrs.set(metacopy, metacopyOf(ORIGIN_CONTENT));
  }

  /** The sketch of the top of the last lookup. */
  private last: Sketch | undefined;

  /** The inode, with a layer that notes which xattrs are read. Layers are asked about their own inode, which may hold caches. */
  private watch(found: Inode): Inode {
    const { layer } = found;
    const xattrs = this.current?.xattrs;
    const getxattr = (_: Inode, name: ByteString): Uint8Array | undefined => {
      const value = layer.getxattr(found, name)?.slice();
      if (value) xattrs?.set(name, value);
      return value;
    };
    const xattrBytes = (inode: Inode, name: ByteString): number => getxattr(inode, name)?.length ?? -1;
    const watched = Object.create(layer, { getxattr: { value: getxattr }, xattrBytes: { value: xattrBytes } });
    return Object.create(found, { layer: { value: watched } });
  }

  lookup(): void {
    this.last = undefined;
  }

  layer(path: string, name: ByteString): void {
    const asked = this.roots.get(path);
    this.base = asked?.root;
    if (!asked) return;
    if (asked.dataOnly)
      followPath(asked.layer.root, name, (directory, part) => this.step(asked.layer, directory, part));
    else if (!name.startsWith('/')) {
      const directory = this.parent?.stack.find(({ layer }) => layer === asked.layer);
      this.base = directory && this.places.get(asked.layer)?.get(directory.ino);
    }
  }

  component(name: ByteString, found: Inode | undefined): void {
    if (!found || !this.base) return;
    this.current = this.enter(this.base, name, found);
    this.last ??= this.current;
    this.base = this.current;
  }

  rule(): void {}
  outcome(): void {}

  private step(layer: Layer, directory: Inode, name: ByteString): Inode | undefined {
    const found = layer.lookup(directory, name);
    const base = this.places.get(layer)?.get(directory.ino);
    if (found && base) this.enter(base, name, found);
    return found;
  }

  private enter(base: Sketch, name: ByteString, found: Inode): Sketch {
    const { mode, rdev, sizeBytes, layer, ino } = found;
    const sketch = base.entries.get(name) ?? newSketch(mode, rdev, Math.min(sizeBytes, CONTENT_BYTES));
    base.entries.set(name, sketch);
    if (isDirectory(mode)) this.places.get(layer)?.set(ino, sketch);
    return sketch;
  }
}

function metacopyOf(content: string): Uint8Array {
  const digest = measureBytes(Buffer.from(content), parametersOf('sha256'));
  return Uint8Array.of(0, 4 + digest.length, 0, 1, ...digest);
}
