/** Finds data by its origin: which layer's filesystem a handle belongs to, and the file there. */
import type { Data, Layer } from '../layers/layer.ts';
import type { Name } from '../sys/bytes.ts';
import { EXDEV } from '../sys/errno.ts';
import type { Origin } from './origin.ts';

export class OriginFinder {
  private readonly layers: readonly Layer[];
  /** For each uuid the layer to ask; null where two filesystems have it, so that a handle could be of either. */
  private owners: Map<Name, Layer | null> | undefined;

  /** @param layers data-only ones first */
  constructor(layers: readonly Layer[]) {
    this.layers = layers;
  }

  /**
   * Opens the regular file of an origin, wherever on its filesystem it is: the caller checks its digest.
   * @returns a negative errno where it is not found: -EXDEV where no layer's filesystem has the uuid, or several have it;
   *   -EPERM where this process may not open files by handle
   */
  open({ uuid, handle }: Origin): Data | number {
    this.owners ??= ownersOf(this.layers);
    return this.owners.get(uuid)?.openHandle(handle) ?? -EXDEV;
  }
}

function ownersOf(layers: readonly Layer[]): Map<Name, Layer | null> {
  const owners = new Map<Name, Layer | null>();
  for (const layer of layers) {
    const { uuid } = layer;
    if (uuid === undefined) continue;
    const owner = owners.get(uuid);
    if (owner === undefined) owners.set(uuid, layer);
    else if (owner?.filesystem !== layer.filesystem) owners.set(uuid, null);
  }
  return owners;
}
