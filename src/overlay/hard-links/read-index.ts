/** Opens the index of an upper layer that is only read. */
import type { LayerContext } from '../../layers/context.ts';
import type { StatSource } from '../../layers/stored-stat.ts';
import { UpperLayer } from '../../layers/upper.ts';
import { printable } from '../../sys/bytes.ts';
import { ENOENT, ErrnoError } from '../../sys/errno.ts';
import type { UpperOptions } from '../options/rules.ts';
import type { Overlay } from '../overlay.ts';
import { LinkIndex } from './link-index.ts';
import { indexMarks, refuseForeign } from './marks.ts';

/**
 * Has an overlay use the index in the work directory, if there is one. A name of a lower file may lead to a copy there alone.
 * Throws ErrnoError that names the directory: ESTALE as `refuseForeign`.
 */
export function readIndex(overlay: Overlay, { workdir }: UpperOptions, context: LayerContext): void {
  const hasHandles = overlay.layers.every(one => one.originOf?.(one.root) !== undefined);
  const { statSource } = overlay.layers[0] as UpperLayer;
  const layer = hasHandles ? openLayer(`${workdir}/index`, context, statSource) : undefined;
  if (layer === undefined) return;
  const index = new LinkIndex(layer, layer.root, overlay.rules.xattrs);
  refuseForeign(overlay, indexMarks(overlay, index), printable(workdir));
  overlay.index = index;
}

function openLayer(path: string, context: LayerContext, source: StatSource | undefined): UpperLayer | undefined {
  try {
    return new UpperLayer(path, context, undefined, [], source);
  } catch (error) {
    if (error instanceof ErrnoError && error.errno === ENOENT) return undefined; // nothing was copied up yet
    throw error;
  }
}
