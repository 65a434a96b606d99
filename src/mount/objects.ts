/** Whether the objects of a composefs image are in the stack, judged by a few files, for people who did not name the objects. */
import type { Node } from '../overlay/node.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { type ByteString, byteStringOf } from '../sys/bytes.ts';
import { attempt, EIO, ENOENT, ErrnoError, errnoText } from '../sys/errno.ts';
import { isDirectory } from '../sys/stat.ts';
import { type Finding, WHOLE_STACK } from './finding.ts';

/** The most files whose data is looked for, and the most names that are looked up to find them. */
const FILES_MAX = 16;
const NAMES_MAX = 1000;

/** The path of an object in a store: two digits of the digest, then the others. */
const OBJECT_PATH = /^\/{1,2}[0-9a-f]{2}\/[0-9a-f]{62,126}$/;

/**
 * Tries the data of files until one is found.
 * @returns `no-objects` if none is; `objects-not-data-only` if the data is in a layer whose names show in the mount. undefined if
 *   all is well, or if no layer is a composefs image
 */
export function objectsFinding(overlay: Overlay): Finding | undefined {
  const image = overlay.layers.find(layer => layer.composefs);
  if (!image) return undefined;
  let tried = 0;
  let reason: number | string = ENOENT;
  for (const { data, errno } of samples(overlay.withRules({}))) {
    if (data === 'found') return undefined;
    if (data !== 'missing') return notDataOnly(overlay, data);
    tried++;
    reason = errno;
  }
  return tried > 0 ? noObjects(overlay, image.path, tried, reason) : undefined;
}

function noObjects(overlay: Overlay, image: string, tried: number, errno: number): Finding {
  const layers = overlay.dataLayers.map(({ path }) => path).join(' and ');
  return {
    code: 'no-objects',
    path: WHOLE_STACK,
    layer: image,
    message: `${image}: the data of ${tried === 1 ? 'the one file' : `${tried} files`} tried is missing: ${errnoText(errno)}`,
    help: layers
      ? `check that ${layers} is the directory of this image's objects`
      : `name the directory of the objects: ${image}::OBJECTS, or -o basedir=OBJECTS`,
  };
}

function notDataOnly(overlay: Overlay, layer: string): Finding {
  const [top] = overlay.layers;
  return {
    code: 'objects-not-data-only',
    path: WHOLE_STACK,
    layer,
    message: `${layer}: a lower layer that holds objects, whose names are part of the mount`,
    help: `write two colons: ${top?.path}::${layer}`,
  };
}

/** Where the data of a file is: in a data-only layer or an image, in a directory that is a lower layer, or nowhere. */
type Sample = { readonly data: 'found' | 'missing' | (string & {}); readonly errno: number };

/** Walks the tree depth first for files with data elsewhere. */
function* samples(overlay: Overlay): Generator<Sample> {
  const pending = [overlay.root];
  let [names, files] = [0, 0];
  for (let directory = pending.pop(); directory; directory = pending.pop()) {
    const listed = attempt(() => overlay.list(directory));
    if (listed instanceof ErrnoError) continue;
    for (const { name } of listed) {
      if (++names > NAMES_MAX) return;
      const node = attempt(() => overlay.lookup(directory, name));
      if (typeof node === 'object' && 'top' in node && isDirectory(node.top.mode)) pending.push(node);
      const sample = sampleOf(overlay, directory, name, node);
      if (sample) yield sample;
      if (sample && ++files === FILES_MAX) return;
    }
  }
}

/** @returns undefined unless the data of the file is elsewhere */
function sampleOf(
  overlay: Overlay,
  { stack }: Node,
  name: ByteString,
  node: Node | number | ErrnoError,
): Sample | undefined {
  if (typeof node === 'number') {
    const inode = attempt(() => stack[0]?.layer.lookup(stack[0], name));
    const isMetacopy =
      inode && !(inode instanceof ErrnoError) && inode.layer.xattrBytes(inode, overlay.rules.xattrs.metacopy) >= 0;
    return node === -EIO && isMetacopy ? { data: 'missing', errno: ENOENT } : undefined; // lookup has no other errno for it
  }
  if (node instanceof ErrnoError || node.data === undefined) return undefined;
  const { data, top } = node;
  if (typeof data === 'object') {
    const redirect = top.layer.getxattr(top, overlay.rules.xattrs.redirect);
    const isObject = redirect !== undefined && OBJECT_PATH.test(byteStringOf(redirect));
    return { data: isObject && data.layer.kind === 'directory' ? data.layer.path : 'found', errno: 0 };
  }
  const found = attempt(() => overlay.find(node));
  if (typeof found === 'number') return { data: 'missing', errno: -found };
  if (found instanceof ErrnoError) return { data: 'missing', errno: found.errno };
  found.close();
  return { data: 'found', errno: 0 };
}
