/** Opens the layers of a stack. */
import { type BigIntStats, realpathSync, statSync } from 'node:fs';
import { DirLayer } from '../layers/dir.ts';
import { openErofsLayer } from '../layers/erofs.ts';
import type { Layer } from '../layers/layer.ts';
import { type Name, nameBytes, nameOf, printable } from '../sys/bytes.ts';
import { EINVAL, EIO, ELOOP, ErrnoError } from '../sys/errno.ts';
import { measureBytes } from '../verity/digest.ts';
import { VerityError } from '../verity/error.ts';
import { refuseDeepNesting } from './nesting.ts';
import type { StackOptions } from './options.ts';
import { Overlay } from './overlay.ts';

/**
 * Opens every layer of a stack: a directory, or a file that is an EROFS image.
 * Throws ErrnoError that names the layer: ENOENT where it is missing, EINVAL where it is neither, ELOOP where a layer is
 * or lies inside another one, and what reading an image gives.
 */
export function openOverlay(options: StackOptions): Overlay {
  refuseOverlaps(options.layers.map(layer => layer.path));
  const opened: Layer[] = [];
  try {
    for (const { path } of options.layers) {
      opened.push(openLayer(path, opened.length === 0 ? options.imageDigest : undefined));
    }
    const isNormal = (_: Layer, position: number): boolean => !options.layers[position]?.dataOnly;
    return new Overlay(
      opened.filter(isNormal),
      opened.filter((layer, position) => !isNormal(layer, position)),
      options,
    );
  } catch (error) {
    for (const layer of opened) layer.close();
    throw error;
  }
}

/** @param digest what an image must have; a directory has none */
function openLayer(path: Name, digest: string | undefined): Layer {
  const stat = statLayer(path);
  if (stat.isFile()) return openImageLayer(path, digest);
  if (digest !== undefined) throw new ErrnoError(EINVAL, `layer ${printable(path)}: no image, so it has no digest`);
  if (stat.isDirectory()) {
    refuseDeepNesting(path);
    return new DirLayer(path);
  }
  throw new ErrnoError(EINVAL, `layer ${printable(path)}: neither a directory nor an image`);
}

/** The digest is that of the bytes in memory, which are used from then on, whatever becomes of the file; but not before. */
function openImageLayer(path: Name, digest: string | undefined): Layer {
  return openErofsLayer(path, bytes => {
    const found = digest === undefined ? undefined : Buffer.from(measureBytes(bytes)).toString('hex');
    if (found === digest) return;
    throw new VerityError('EWRONGVERITY', `layer ${printable(path)}: the image is ${found}, not ${digest}`);
  });
}

const statLayer = (path: Name): BigIntStats => ask(path, bytes => statSync(bytes, { bigint: true }));

function ask<T>(path: Name, systemCall: (path: Buffer) => T): T {
  try {
    return systemCall(nameBytes(path) as Buffer);
  } catch (error) {
    const { errno = EIO, code } = error as NodeJS.ErrnoException;
    throw new ErrnoError(Math.abs(errno), `layer ${printable(path)}: ${code}`);
  }
}

/**
 * One tree must not be seen through two layers. An image's tree is its own, wherever the file lies: among its objects, say.
 * Source: kernel fs/overlayfs/super.c, ovl_check_overlapping_layers.
 */
function refuseOverlaps(paths: readonly Name[]): void {
  const roots = new Map<string, Name>();
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
const overlap = (path: Name, relation: string, other: Name): ErrnoError =>
  new ErrnoError(ELOOP, `layer ${printable(path)} ${relation} layer ${printable(other)}`);

/** The directories above a path. */
function ancestors(path: Name): Name[] {
  const real = nameOf(ask(path, bytes => realpathSync.native(bytes, { encoding: 'buffer' }))); // the other reads UTF-8
  const above: Name[] = [];
  for (let end = real.lastIndexOf('/'); end > 0; end = real.lastIndexOf('/', end - 1)) above.push(real.slice(0, end));
  return [...above, '/'];
}
