/** Finds data by its origin: the layer on whose filesystem the file handle is valid, and the file there. */
import type { Data, Layer } from '../layers/layer.ts';
import type { ByteString } from '../sys/bytes.ts';
import { ENOENT, EPERM, EXDEV } from '../sys/errno.ts';
import type { Origin } from '../sys/handles.ts';

export class OriginFinder {
  private readonly layers: readonly Layer[];
  /** For each uuid, the layers to search; none if two filesystems have the uuid, because a handle could belong to either. */
  private owners: Map<ByteString, Layer[]> | undefined;

  /** @param layers in the order in which they are searched: the data-only ones first */
  constructor(layers: readonly Layer[]) {
    this.layers = layers;
  }

  /**
   * Opens the regular file of an origin, wherever it is on its filesystem. The caller must check its digest.
   * @returns the data, or a negative errno: -EXDEV if no layer's filesystem has the uuid, or several have it; -EPERM if this
   *   process may not open files by handle
   */
  open({ uuid, handle }: Origin): Data | number {
    this.owners ??= ownersOf(this.layers);
    let result = -EXDEV;
    for (const layer of this.owners.get(uuid) ?? []) {
      const found = layer.openHandle(handle);
      if (found !== -ENOENT && found !== -EPERM) return found;
      if (result !== -ENOENT) result = found; // the index of another layer may have the file
    }
    return result;
  }
}

function ownersOf(layers: readonly Layer[]): Map<ByteString, Layer[]> {
  const owners = new Map<ByteString, Layer[]>();
  for (const layer of layers) {
    const { uuid } = layer;
    if (uuid !== undefined) owners.set(uuid, [...(owners.get(uuid) ?? []), layer]);
  }
  for (const [uuid, found] of owners) {
    if (new Set(found.map(({ filesystem }) => filesystem)).size > 1) owners.set(uuid, []);
  }
  return owners;
}
