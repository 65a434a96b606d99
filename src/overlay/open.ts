/** Opens the layers of a stack. */
import { type BigIntStats, statSync } from 'node:fs';
import { DirLayer } from '../layers/dir.ts';
import { openErofsLayer } from '../layers/erofs.ts';
import type { Layer } from '../layers/layer.ts';
import { type ByteString, bufferOf, printable } from '../sys/bytes.ts';
import { EINVAL, EIO, ELOOP, ErrnoError } from '../sys/errno.ts';
import { realPath } from '../sys/real-path.ts';
import { algorithmOfHex, digestFromText, parametersOf } from '../verity/algorithms.ts';
import { measureBytes } from '../verity/digest.ts';
import { VerityError } from '../verity/error.ts';
import { DEFAULT_MEMORY, type Memory } from './cache.ts';
import { refuseDeepNesting } from './nesting.ts';
import { defaultsFor, parseLowerdir, type StackChoices, StackDraft, type StackOptions } from './options.ts';
import { Overlay } from './overlay.ts';
import { type Judge, step } from './step.ts';

/**
 * Opens the stack `A:B::C:…`, by the defaults of `lowerdata mount`: metacopy and redirects are followed, digests are
 * checked, and absolute redirects lead to data-only layers alone where all normal layers are images.
 * @param source the layers, `::` before each data-only one; a backslash escapes `:` and itself
 * @param choices what is to differ from that
 * @param judge a rule to try in the place of the kernel's
 * Throws ErrnoError: EINVAL for colons that separate nothing and for choices that conflict, else as `openOverlay`.
 */
export function openStack(source: ByteString, choices: StackChoices = {}, judge: Judge = step): Overlay {
  const layers = parseLowerdir(source, 'stack');
  const draft = new StackDraft(choices);
  draft.replaceLayers(source);
  return openOverlay(draft.finish(defaultsFor(layers, path => statLayer(path).isFile())), judge);
}

/**
 * Opens every layer of a stack: a directory, or a file that is an EROFS image.
 * @param memory how much of them is remembered, and how long
 * Throws ErrnoError that names the layer: ENOENT where it is missing, EINVAL where it is neither, ELOOP where a layer is
 * or lies inside another one, and what reading an image gives.
 */
export function openOverlay(options: StackOptions, judge: Judge = step, memory: Memory = DEFAULT_MEMORY): Overlay {
  refuseOverlaps(options.layers.map(layer => layer.path));
  const opened: Layer[] = [];
  try {
    for (const { path } of options.layers) {
      opened.push(openLayer(path, opened.length === 0 ? options.imageDigest : undefined, memory.attrSeconds));
    }
    const isNormal = (_: Layer, position: number): boolean => !options.layers[position]?.dataOnly;
    return new Overlay(
      opened.filter(isNormal),
      opened.filter((layer, position) => !isNormal(layer, position)),
      options,
      judge,
      memory,
    );
  } catch (error) {
    for (const layer of opened) layer.close();
    throw error;
  }
}

/**
 * Opens one layer: a directory, or a file that is an EROFS image, which is read into memory.
 * @param digest the fs-verity digest that the image must have: `[sha256:|sha512:]HEX`
 * @param attrSeconds how long attributes of a directory may be out of date
 * Throws ErrnoError that names the layer, as `openOverlay`; EINVAL for a directory where a digest is given, and for a digest
 * that is none; VerityError EIO where the image has another one.
 */
export function openLayer(path: ByteString, digest?: string, attrSeconds: number = DEFAULT_MEMORY.attrSeconds): Layer {
  const stat = statLayer(path);
  if (stat.isFile()) return openImageLayer(path, digest);
  if (digest !== undefined) throw new ErrnoError(EINVAL, `layer ${printable(path)}: no image, so it has no digest`);
  if (stat.isDirectory()) {
    refuseDeepNesting(path);
    return new DirLayer(path, attrSeconds);
  }
  throw new ErrnoError(EINVAL, `layer ${printable(path)}: neither a directory nor an image`);
}

/** The digest is that of the bytes in memory, which are used from then on, whatever becomes of the file; but not before. */
function openImageLayer(path: ByteString, digest: string | undefined): Layer {
  if (digest === undefined) return openErofsLayer(path);
  const wanted = digestFromText(digest);
  const algorithm = algorithmOfHex(wanted ?? '');
  if (algorithm === undefined)
    throw new ErrnoError(EINVAL, `layer ${printable(path)}: ${printable(digest)} is not an fs-verity digest`);
  return openErofsLayer(path, bytes => {
    const found = Buffer.from(measureBytes(bytes, parametersOf(algorithm))).toString('hex');
    if (found === wanted) return;
    throw new VerityError('EWRONGVERITY', `layer ${printable(path)}: the image is ${found}, not ${wanted}`);
  });
}

const statLayer = (path: ByteString): BigIntStats => ask(path, bytes => statSync(bytes, { bigint: true }));

function ask<T>(path: ByteString, systemCall: (path: Buffer) => T): T {
  try {
    return systemCall(bufferOf(path));
  } catch (error) {
    const { errno = EIO, code } = error as NodeJS.ErrnoException;
    throw new ErrnoError(Math.abs(errno), `layer ${printable(path)}: ${code}`);
  }
}

/**
 * One tree must not be seen through two layers. An image's tree is its own, wherever the file lies: among its objects, say.
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

const identity = (stat: BigIntStats): string => `${stat.dev}:${stat.ino}`;
const overlap = (path: ByteString, relation: string, other: ByteString): ErrnoError =>
  new ErrnoError(ELOOP, `layer ${printable(path)} ${relation} layer ${printable(other)}`);

/** The directories above a path. */
function ancestors(path: ByteString): ByteString[] {
  const real = ask(path, () => realPath(path));
  const above: ByteString[] = [];
  for (let end = real.lastIndexOf('/'); end > 0; end = real.lastIndexOf('/', end - 1)) above.push(real.slice(0, end));
  return [...above, '/'];
}
