/** Opens the layers of a stack. */
import { type BigIntStats, statSync } from 'node:fs';
import { AufsLayer } from '../layers/aufs.ts';
import { contextOfSingles, LayerContext } from '../layers/context.ts';
import { DirLayer } from '../layers/dir.ts';
import { openErofsLayer } from '../layers/erofs.ts';
import type { Layer } from '../layers/layer.ts';
import type { StatSource } from '../layers/stored-stat.ts';
import { UpperLayer } from '../layers/upper.ts';
import { type ByteString, bufferOf, printable } from '../sys/bytes.ts';
import { EINVAL, ELOOP, ErrnoError, systemError } from '../sys/errno.ts';
import { realPath } from '../sys/real-path.ts';
import { algorithmOfHex, digestFromText } from '../verity/algorithms.ts';
import { measureHex } from '../verity/digest.ts';
import { VerityError } from '../verity/error.ts';
import { DEFAULT_MEMORY, type Memory } from './cache.ts';
import { readIndex } from './hard-links/read-index.ts';
import { refuseDeepNesting } from './nesting.ts';
import { StackDraft } from './options/draft.ts';
import { parseLowerdir } from './options/lowerdir.ts';
import { defaultsFor, type RuleOptions, type StackChoices, type StackOptions } from './options/rules.ts';
import { Overlay } from './overlay.ts';
import { type Judge, step } from './step.ts';
import { OverlayXattrs } from './xattrs.ts';

/** What makes a directory opaque in overlayfs. */
const OPAQUE_XATTRS: readonly ByteString[] = [false, true].map(userxattr => new OverlayXattrs(userxattr).opaque);

/**
 * Opens the stack `A:B::C:…` with the defaults of `lowerdata mount`: metacopy and redirects are followed, and digests are
 * checked. If all normal layers are images, absolute redirects lead only to data-only layers.
 * @param source the layers, with `::` before each data-only one; a backslash escapes `:` and itself
 * @param choices the options that differ from these defaults
 * @param judge a rule to use in place of the kernel's
 * Throws ErrnoError: EINVAL for colons that separate nothing and for choices that conflict; otherwise as `openOverlay`.
 * @example
 * const overlay = openStack('image.cfs::tree');
 * assert.deepEqual(overlay.list(overlay.root).map(({ name }) => name).sort(), ['link', 'poem']);
 * overlay.close();
 */
export function openStack(source: ByteString, choices: StackChoices = {}, judge: Judge = step): Overlay {
  const layers = parseLowerdir(source, 'stack');
  const draft = new StackDraft(choices);
  draft.replaceLayers(source);
  return openOverlay(draft.finish(defaultsFor(layers, path => statLayer(path).isFile())), judge);
}

/**
 * Opens every layer of a stack: a directory, or a file that is an EROFS image.
 * @param memory how much of the layers is remembered, and for how long
 * @param openUpper opens the layer above all others to write to it; `opaque` and
 *   `source` as for AufsLayer. Without it, that layer is only read.
 * Throws ErrnoError that names the layer: ENOENT if it is missing; EINVAL if it is neither a directory nor a file; ELOOP if it is
 * the same as another layer or lies inside one; and the errors of reading an image.
 * @example
 * const layers = parseLowerdir('image.cfs::tree');
 * const overlay = openOverlay({ ...settleRules(), layers });
 * assert.equal(overlay.dataLayers[0]?.path, 'tree');
 * overlay.close();
 */
export function openOverlay(
  options: StackOptions,
  judge: Judge = step,
  memory: Memory = DEFAULT_MEMORY,
  openUpper?: (context: LayerContext, opaque: readonly ByteString[], source: StatSource | undefined) => Layer,
): Overlay {
  refuseOverlaps(options.layers.map(layer => layer.path));
  refuseWrittenLayers(options);
  const context = new LayerContext();
  const opened: Layer[] = [];
  try {
    for (const { path } of options.layers) {
      const digest = opened.length === 0 ? options.imageDigest : undefined;
      opened.push(openLayerIn(context, path, digest, memory.attrSeconds, options));
    }
    const isNormal = (_: Layer, position: number): boolean => !options.layers[position]?.dataOnly;
    const opaque = options.whiteouts === 'both' ? OPAQUE_XATTRS : [];
    const source = sourceOfUpper(options);
    const readUpper = (): Layer[] =>
      options.upper ? [new UpperLayer(options.upper.upperdir, context, undefined, opaque, source)] : [];
    const top = openUpper ? [openUpper(context, opaque, source)] : readUpper();
    const overlay = new Overlay(
      [...top, ...opened.filter(isNormal)],
      opened.filter((layer, position) => !isNormal(layer, position)),
      options,
      judge,
      memory,
      context,
    );
    if (options.upper?.index && !openUpper) readIndex(overlay, options.upper, context);
    return overlay;
  } catch (error) {
    for (const layer of opened) layer.close();
    throw error;
  }
}

/**
 * Opens one layer: a directory, or a file that is an EROFS image, which is read into memory.
 * @param digest the fs-verity digest that the image must have: `[sha256:|sha512:]HEX`
 * @param attrSeconds how long attributes of a directory may be out of date
 * Throws ErrnoError that names the layer, as `openOverlay` does; EINVAL for a directory with a digest, and for text that is no
 * digest; VerityError EIO if the image has another digest.
 * @example
 * const layer = openLayer('tree');
 * const poem = layer.lookup(layer.root, 'poem');
 * assert.equal(poem?.sizeBytes, 128);
 * layer.close();
 */
export function openLayer(path: ByteString, digest?: string, attrSeconds: number = DEFAULT_MEMORY.attrSeconds): Layer {
  return openLayerIn(contextOfSingles(), path, digest, attrSeconds);
}

/** Where owners and modes of the upper layer are stored. */
const sourceOfUpper = ({ xattrPermissions }: RuleOptions): StatSource | undefined =>
  xattrPermissions && SOURCES[xattrPermissions];
const SOURCES = { 0: 'detect', 1: 'security', 2: 'user' } as const;

function openLayerIn(
  context: LayerContext,
  path: ByteString,
  digest: string | undefined,
  attrSeconds: number,
  rules: Pick<RuleOptions, 'whiteouts' | 'xattrPermissions'> = {},
): Layer {
  const stat = statLayer(path);
  if (stat.isFile()) return openImageLayer(path, digest);
  if (digest !== undefined) throw new ErrnoError(EINVAL, `layer ${printable(path)}: not an image, so it has no digest`);
  if (stat.isDirectory()) {
    refuseDeepNesting(path);
    const source = rules.xattrPermissions === undefined ? undefined : 'detect';
    return rules.whiteouts === 'both'
      ? new AufsLayer(path, attrSeconds, context, OPAQUE_XATTRS, undefined, source)
      : new DirLayer(path, attrSeconds, context, undefined, source);
  }
  throw new ErrnoError(EINVAL, `layer ${printable(path)}: neither a directory nor an image`);
}

/**
 * Opens an image, after it has checked the digest. The digest covers the bytes in memory, which are used from then on even if the
 * file changes.
 */
function openImageLayer(path: ByteString, digest: string | undefined): Layer {
  if (digest === undefined) return openErofsLayer(path);
  const wanted = digestFromText(digest);
  const algorithm = algorithmOfHex(wanted ?? '');
  if (algorithm === undefined)
    throw new ErrnoError(EINVAL, `layer ${printable(path)}: ${printable(digest)} is not an fs-verity digest`);
  return openErofsLayer(path, bytes => {
    const found = measureHex(bytes, algorithm);
    if (found === wanted) return;
    throw new VerityError(
      'EWRONGVERITY',
      `layer ${printable(path)}: the digest of the image is ${found}, not ${wanted}`,
    );
  });
}

const statLayer = (path: ByteString): BigIntStats => ask(path, bytes => statSync(bytes, { bigint: true }));

function ask<T>(path: ByteString, systemCall: (path: Buffer) => T): T {
  try {
    return systemCall(bufferOf(path));
  } catch (error) {
    throw systemError(error, `layer ${printable(path)}`);
  }
}

/**
 * Refuses stacks in which one tree is seen through two layers. An image may lie inside a directory layer, for
 * example among its objects, because the tree in it is another one.
 * Source: kernel fs/overlayfs/super.c, ovl_check_overlapping_layers.
 */
function refuseOverlaps(paths: readonly ByteString[]): void {
  const roots = new Map<string, ByteString>();
  for (const path of paths) {
    const key = identity(statLayer(path));
    const same = roots.get(key);
    if (same !== undefined) throw overlap(path, 'is the same as', same);
    roots.set(key, path);
  }
  for (const path of paths) {
    if (!statLayer(path).isDirectory()) continue;
    for (const above of ancestors(path)) {
      const outer = roots.get(identity(statLayer(above)));
      if (outer !== undefined) throw overlap(path, 'lies inside', outer);
    }
  }
}

/** A layer may hold the directories that are written to, as in the kernel, but not be one of them. */
function refuseWrittenLayers({ upper, layers }: StackOptions): void {
  if (upper === undefined) return;
  for (const path of [upper.upperdir, upper.workdir]) {
    const own = statSync(bufferOf(path), { bigint: true, throwIfNoEntry: false }); // that it is missing is reported later
    const same = own && layers.find(layer => identity(statLayer(layer.path)) === identity(own));
    if (same) throw new ErrnoError(ELOOP, `${printable(path)} is the same as layer ${printable(same.path)}`);
  }
}

const identity = (stat: BigIntStats): string => `${stat.dev}:${stat.ino}`;
const overlap = (path: ByteString, relation: string, other: ByteString): ErrnoError =>
  new ErrnoError(ELOOP, `layer ${printable(path)} ${relation} layer ${printable(other)}`);

/** The directories above the real path of a layer, nearest first, down to `/`. */
function ancestors(path: ByteString): ByteString[] {
  const real = ask(path, () => realPath(path));
  const above: ByteString[] = [];
  for (let end = real.lastIndexOf('/'); end > 0; end = real.lastIndexOf('/', end - 1)) above.push(real.slice(0, end));
  return [...above, '/'];
}
