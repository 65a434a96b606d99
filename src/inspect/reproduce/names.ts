/** Gives every name of a drawn stack a short one. What makes a redirect invalid stays: empty components, dots, slashes, length. */
import type { ByteString } from '../../sys/bytes.ts';
import { bufferOf, byteStringOf } from '../../sys/bytes.ts';
import type { Draft } from './shrink.ts';
import type { LayerSketch, Sketch } from './sketch.ts';

const NAME_MAX = 255;
const LETTERS = 26;

/** a to z, then b0, b1 and so on: a letter, and digits. */
function shortName(count: number, letter: 'a' | 'A'): string {
  const last = letter.charCodeAt(0) + (count % LETTERS);
  return String.fromCharCode(last) + (count < LETTERS ? '' : Math.floor(count / LETTERS));
}

/** A draft with generated names: layers have capital letters, all else small ones. */
export function renamed(draft: Draft): Draft {
  const known = new Map<ByteString, string>();
  const rename = (name: ByteString): ByteString => {
    if (['', '.', '..'].includes(name)) return name;
    let short = known.get(name);
    if (short === undefined) {
      short = shortName(known.size, 'a');
      if (name.length > NAME_MAX) short = short.padEnd(NAME_MAX + 1, '-');
      known.set(name, short);
    }
    return short;
  };
  const names = draft.names.map(rename);
  const layers = draft.layers.map(
    ({ root, dataOnly }, i): LayerSketch => ({ dataOnly, path: shortName(i, 'A'), root: renamedTree(root, rename) }),
  );
  return { ...draft, names, layers };
}

function renamedTree(sketch: Sketch, rename: (name: ByteString) => ByteString): Sketch {
  const xattrs = new Map(
    [...sketch.xattrs].map(([name, value]) => [name, name.endsWith('.redirect') ? redirect(value, rename) : value]),
  );
  const entries = new Map([...sketch.entries].map(([name, entry]) => [rename(name), renamedTree(entry, rename)]));
  return { ...sketch, xattrs, entries };
}

/** A redirect with other names; it ends at the first NUL. */
function redirect(value: Uint8Array, rename: (name: ByteString) => ByteString): Uint8Array {
  const [text = '', ...rest] = byteStringOf(value).split('\0');
  const path = text.split('/').map(rename).join('/');
  return bufferOf(rest.length > 0 ? `${path}\0` : path);
}
