/** What keeps the layers of a stack within reach of a later process. */
import { statSync } from 'node:fs';
import { ErofsLayer } from '../../layers/erofs.ts';
import { holdImage } from '../../layers/held-image.ts';
import type { Overlay } from '../../overlay/overlay.ts';
import { O_DIRECTORY, O_PATH, openIn } from '../../sys/beneath.ts';
import { type ByteString, bufferOf, printable } from '../../sys/bytes.ts';
import { must } from '../../sys/errno.ts';
import { AT_FDCWD } from '../../sys/statx.ts';
import { measureHex } from '../../verity/digest.ts';

/**
 * Opens a layer: an image with its lock, as `holdImage` does, or a directory by O_PATH. @returns the descriptor
 * Throws ErrnoError that names the layer.
 */
export function holdLayer(path: ByteString): number {
  if (statSync(bufferOf(path)).isFile()) return holdImage(path);
  return must(openIn(AT_FDCWD, path, O_PATH | O_DIRECTORY, 0), `layer ${printable(path)}`);
}

/** The fs-verity digest, by SHA-256, of the bytes of the top layer; undefined if it is no image. */
export function digestOfTop({ layers: [top] }: Overlay): string | undefined {
  return top instanceof ErofsLayer ? measureHex(top.image.bytes) : undefined;
}
