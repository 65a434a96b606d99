/** Whether the objects of a composefs image are in the stack, judged by a few files, for people who did not name the objects. */
import type { Node } from '../overlay/node.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { type ByteString, byteStringOf } from '../sys/bytes.ts';
import { attempt, EIO, ENOENT, ErrnoError, errnoText } from '../sys/errno.ts';
import { DT_DIR, DT_REG, isDirectory } from '../sys/stat.ts';
import { type Finding, WHOLE_STACK } from './finding.ts';

type Layer = Overlay['layers'][number];
type Inode = Node['top'];

/** The most files whose data is looked for, and the most names that are read to find them. */
const FILES_MAX = 4;
const NAMES_MAX = 1000;

/** The path of an object in a store: two digits of the digest, then the others. */
const OBJECT_PATH = /^\/{1,2}[0-9a-f]{2}\/[0-9a-f]{62,126}$/;

/**
 * Tries the data of files until one is found. Every mount of an image does this first, so only the names of the image are read,
 * and only directories on the way are looked up.
 * @returns `no-objects` if none is found; `objects-not-data-only` if the data is in a layer whose names show in the mount.
 *   undefined if all is well, or if no layer is a composefs image
 */
export function objectsFinding(overlay: Overlay): Finding | undefined {
  const image = overlay.layers.find(layer => layer.composefs);
  if (!image) return undefined;
  let tried = 0;
  let errno = ENOENT;
  for (const place of dataPlaces(overlay.withRules({}), image)) {
    if (place === 'found') return undefined;
    if ('layer' in place) return notDataOnly(overlay, place.layer);
    tried++;
    errno = place.missing;
  }
  return tried > 0 ? noObjects(overlay, image.path, tried, errno) : undefined;
}

const joined = (layers: readonly Layer[]): string => layers.map(({ path }) => path).join(':');

function noObjects({ layers, dataLayers }: Overlay, image: string, tried: number, errno: number): Finding {
  return {
    code: 'no-objects',
    path: WHOLE_STACK,
    layer: image,
    message: `${image}: the data of ${tried === 1 ? 'the one file' : `${tried} files`} tried is missing: ${errnoText(errno)}`,
    help:
      dataLayers.length > 0
        ? `check that ${joined(dataLayers)} is the directory of this image's objects`
        : `name the directory of the objects: ${joined(layers)}::OBJECTS, or -o basedir=OBJECTS`,
  };
}

function notDataOnly({ layers, dataLayers }: Overlay, objects: Layer): Finding {
  const others = layers.filter(layer => layer !== objects);
  return {
    code: 'objects-not-data-only',
    path: WHOLE_STACK,
    layer: objects.path,
    message: `${objects.path}: a lower layer that holds objects, whose names are part of the mount`,
    help: `write two colons: ${joined(others)}::${joined([objects, ...dataLayers])}`,
  };
}

/** Where the data of a file is: as it should be, in a directory that is a lower layer, or nowhere, with the errno. */
type DataPlace = 'found' | { readonly layer: Layer } | { readonly missing: number };

/** Walks an image depth first for files with data elsewhere that the overlay shows. */
function* dataPlaces(overlay: Overlay, image: Layer): Generator<DataPlace> {
  const pending: (() => Node | number)[] = [() => overlay.root];
  let [names, files] = [0, 0];
  for (let find = pending.pop(); find && names < NAMES_MAX; find = pending.pop()) {
    const node = attempt(find);
    if (typeof node === 'number' || node instanceof ErrnoError || !isDirectory(node.top.mode)) continue;
    const directory = node.stack.find(({ layer }) => layer === image);
    if (!directory) continue;
    const listed = namesIn(overlay, directory, NAMES_MAX - names);
    names += listed.read;
    for (const name of listed.directories) pending.push(() => overlay.lookup(node, name));
    for (const name of listed.files) {
      const place = placeOf(overlay, image, node, name);
      if (place) yield place;
      if (place && ++files === FILES_MAX) return;
    }
  }
}

/** The first names of a directory of an image, up to the last file that can be tried: directories, and files with data elsewhere. */
function namesIn({ rules }: Overlay, directory: Inode, max: number) {
  const { layer } = directory;
  const [directories, files]: [ByteString[], ByteString[]] = [[], []];
  let read = 0;
  attempt(() =>
    layer.visitNames?.(directory, (name, dtype) => {
      if (dtype === DT_DIR) directories.push(name);
      else if (dtype === DT_REG) {
        const inode = layer.lookup(directory, name);
        if (inode && layer.xattrBytes(inode, rules.xattrs.metacopy) >= 0) files.push(name);
      }
      return ++read < max && files.length < FILES_MAX;
    }),
  );
  return { directories, files, read };
}

/** @returns undefined if the overlay shows another file under this name */
function placeOf(overlay: Overlay, image: Layer, directory: Node, name: ByteString): DataPlace | undefined {
  const node = attempt(() => overlay.lookup(directory, name));
  if (node === -EIO) return { missing: ENOENT }; // the errno of a lookup without a data-only layer
  if (typeof node === 'number' || node instanceof ErrnoError || node.top.layer !== image) return undefined;
  const { data, top } = node;
  if (data === undefined) return undefined;
  if (typeof data === 'object') {
    const redirect = top.layer.getxattr(top, overlay.rules.xattrs.redirect);
    const isObject = redirect !== undefined && OBJECT_PATH.test(byteStringOf(redirect));
    return isObject && data.layer.kind === 'directory' ? { layer: data.layer } : 'found';
  }
  const found = attempt(() => overlay.find(node));
  if (typeof found === 'number') return { missing: -found };
  if (found instanceof ErrnoError) return { missing: found.errno };
  found.close();
  return 'found';
}
