/** Parses the layers of a stack: the value of `lowerdir=`, and the source of a mount. It touches no filesystem. */
import { type ByteString, printable } from '../../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../../sys/errno.ts';
import { splitAt } from './split.ts';

/** One layer: the path by which it is opened, relative to the current directory of the process that mounts. */
export interface LayerSpec {
  readonly path: ByteString;
  readonly dataOnly: boolean;
}

/** The maximum number of layers, data-only ones included. Source: linux/fs/overlayfs/params.c, OVL_MAX_STACK. */
export const LAYERS_MAX = 500;

/**
 * Parses the layers of `A:B::C::D`: normal ones follow single colons, data-only ones follow double colons.
 * Throws EINVAL, with `option` and the place in the text, for colons that separate nothing and for `:` after `::`.
 * @example
 * assert.deepEqual(parseLowerdir('image.cfs::tree'), [
 *   { path: 'image.cfs', dataOnly: false },
 *   { path: 'tree', dataOnly: true },
 * ]);
 */
export function parseLowerdir(text: ByteString, option = 'lowerdir'): LayerSpec[] {
  const pieces = splitAt(text, ':');
  const layers: LayerSpec[] = [];
  let at = 0; // byte offset where the piece begins
  let dataOnly = false; // whether the previous piece was empty, that is, the inside of a double colon
  for (const [i, piece] of pieces.entries()) {
    if (piece !== '') {
      if (!dataOnly && layers.at(-1)?.dataOnly)
        throw misplaced(option, text, at, 'a normal layer after a data-only one');
      const path = withoutBackslashes(piece);
      if (path === '') throw misplaced(option, text, at, 'a backslash alone');
      layers.push({ path, dataOnly });
      dataOnly = false;
    } else {
      if (i === 0) throw misplaced(option, text, at, text === '' ? 'no layer' : 'a colon before the first layer');
      if (i === pieces.length - 1) throw misplaced(option, text, at, 'no layer after the last colon');
      if (dataOnly) throw misplaced(option, text, at, 'more than two colons in a row');
      dataOnly = true;
    }
    at += piece.length + 1;
  }
  return layers;
}

/** Drops each backslash and keeps the byte after it as it is; a backslash at the end is dropped. */
function withoutBackslashes(text: ByteString): ByteString {
  return text.replace(/\\(.?)/gs, '$1');
}

function misplaced(option: string, text: ByteString, at: number, what: string): ErrnoError {
  return new ErrnoError(EINVAL, `${option}=${printable(text)}: ${what}, at byte ${at}`);
}
