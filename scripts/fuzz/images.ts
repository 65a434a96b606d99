/**
 * Damaged images. Whatever the bytes, every call of the reader returns an answer or throws an ErrnoError. Nothing outside the
 * image is read, walks end, and every listed name can be looked up or has an errno.
 */

import { parseDump } from '../../src/composefs/dumpfile.ts';
import { readTree } from '../../src/composefs/read.ts';
import { readStaged } from '../../src/composefs/read-staged.ts';
import { writeImage } from '../../src/composefs/write.ts';
import * as f from '../../src/erofs/format.ts';
import { ErofsLayer } from '../../src/layers/erofs.ts';
import type { Inode } from '../../src/layers/layer.ts';
import { settleRules } from '../../src/overlay/options/rules.ts';
import { Overlay } from '../../src/overlay/overlay.ts';
import { attempt, ErrnoError } from '../../src/sys/errno.ts';
import { isDirectory, isRegular, isSymlink, S_IFDIR, S_IFREG } from '../../src/sys/stat.ts';
import { craft, nidOf } from '../../test/fixtures/images/craft.ts';
import { damageBytes, damageField, type Place, reshape } from './mutate.ts';
import { placesOf } from './places.ts';
import { overlayXattrs } from './stacks.ts';
import { demand, Random, type Target } from './target.ts';
import { makeDump, plainXattrs, rawImage } from './trees.ts';
import { walkOverlay } from './walk.ts';

interface Sound {
  readonly bytes: Uint8Array;
  readonly places: readonly Place[];
}

/** Images of our writer, with the xattrs of composefs and with raw ones, and one with features that the writer does not use. */
function* soundImages(): Generator<Uint8Array> {
  for (let i = 0; i < 12; i++) {
    const random = new Random(0, i);
    yield writeImage(parseDump(makeDump(random, plainXattrs)));
    yield rawImage(makeDump(random, overlayXattrs));
  }
  for (let i = 0; i < 4; i++) {
    yield craftedImage();
    yield rawImage([...makeDump(new Random(1, i), plainXattrs), ...lastDirectory]);
  }
}

/** A directory of more than half a block, which is the last block of its image. */
const lastDirectory = [
  '/z 0 40755 2 0 0 0 0.0 - - -',
  ...Array.from({ length: 60 }, (_, i) => `/z/${'n'.repeat(25)}${100 + i} 0 100644 1 0 0 0 0.0 - - -`),
];

/** An image with small blocks, chunk indexes, 48-bit fields, long prefixes and shared xattrs. */
function craftedImage(): Uint8Array {
  const names = Array.from({ length: 60 }, (_, i) => `name-${String(i).padStart(3, '0')}`);
  const directory = { mode: S_IFDIR | 0o755, layout: f.LAYOUT_FLAT_PLAIN, extended: true };
  const data = new Uint8Array(5000).fill(0x61, 1000, 4000);
  const chunks = { mode: S_IFREG | 0o644, layout: f.LAYOUT_CHUNK_BASED, data };
  const image = {
    blockBits: 9,
    incompat: f.INCOMPAT_CHUNKED_FILE | f.INCOMPAT_48BIT | f.INCOMPAT_XATTR_PREFIXES | f.INCOMPAT_DEVICE_TABLE,
    compat: f.COMPAT_PLAIN_XATTR_PFX,
    prefixes: [[4, 'overlay.'] as const, [1, 'long.prefix.'] as const],
    shared: [[1, 'shared', 'value'] as const, [0x81, 'long', 'value'] as const],
    inodes: [
      { ...directory, entries: names.map((name, i) => [name, 1 + (i % 5), 0] as const) },
      { ...chunks, chunkFormat: f.CHUNK_INDEXES | f.CHUNK_48BIT, shared: [0, 1] },
      { ...chunks, chunkFormat: 1, extended: true },
      { ...directory, entries: [['up', 0, 2] as const] },
      { mode: S_IFREG | 0o644, layout: f.LAYOUT_FLAT_INLINE, data, xattrs: [[0x80, 'opaque', 'y'] as const] },
      { mode: S_IFREG | 0o644, layout: f.LAYOUT_FLAT_PLAIN, data },
    ],
  };
  demand(nidOf(image, 1) > 0, 'the root comes first');
  return craft(image);
}

let corpus: readonly Sound[] | undefined;
const sounds = (): readonly Sound[] =>
  (corpus ??= [...soundImages()].map(bytes => ({ bytes: new Uint8Array(bytes), places: placesOf(bytes) })));

function make(random: Random): Uint8Array {
  const { bytes, places } = random.pick(sounds());
  let input: Uint8Array = bytes.slice();
  for (let n = 1 + random.below(4); n > 0; n--) {
    const kind = random.below(8);
    if (kind === 0) lead(input, places, random);
    else if (kind < 3) damageBytes(input, random);
    else damageField(input, places, random);
  }
  if (random.oneIn(8)) input = reshape(input, random.pick(sounds()).bytes, random.pick([1, 32, 512, 4096]), random);
  return input;
}

/** Makes one name lead to the inode of another, which may be its own directory or a parent of it. */
function lead(input: Uint8Array, places: readonly Place[], random: Random): void {
  const dirents = places.filter(({ layout }) => layout === f.Dirent);
  const [from, to] = [random.pick(dirents).at + f.Dirent.nid, random.pick(dirents).at + f.Dirent.nid];
  input.copyWithin(to, from, from + 8);
}

/** The most objects in one walk: a damaged tree may be a graph with very many names. */
const OBJECTS_MAX = 100;
/** One input in this many is walked through an overlay, whose caches take longer to make than all other steps. */
const OVERLAY_LOTS = 4;
/** Bytes around the image that it must not read. */
const FENCE_BYTES = 1 << 17;

/** Bytes that fail the check if a subarray outside of them is requested. */
class Fenced extends Uint8Array {
  override subarray(from = 0, to = this.length): Uint8Array<ArrayBuffer> {
    demand(from >= 0 && to <= this.length, `bytes ${from} to ${to} of ${this.length} were asked for`);
    return new Uint8Array(this.buffer as ArrayBuffer, this.byteOffset + from, Math.max(0, to - from));
  }
}

/** A copy of the image between two fences of `fill`. */
function fenced(image: Uint8Array, fill: number): Uint8Array {
  const memory = new Uint8Array(image.length + 2 * FENCE_BYTES).fill(fill);
  memory.set(image, FENCE_BYTES);
  return new Fenced(memory.buffer, FENCE_BYTES, image.length);
}

function check(input: Uint8Array): void {
  const told = [0x61, 0].map(fill => interrogate(fenced(input, fill)));
  demand(told[0] === told[1], 'an answer depends on what is around the image');
  const lot = (told[0] ?? '').length;
  if (lot % OVERLAY_LOTS === 0) askOverlay(input, Math.floor(lot / OVERLAY_LOTS));
}

/** A JSON replacer: seconds beyond 2^53 are bigints, which become strings. */
const exactly = (_: string, value: unknown): unknown => (typeof value === 'bigint' ? `${value}` : value);

/** Walks an overlay of the image above itself, with the image as a data-only layer as well. */
function askOverlay(input: Uint8Array, lot: number): void {
  const overlay = attempt(() => {
    const [lower, data] = [new ErofsLayer('lower', input), new ErofsLayer('data', input)];
    return new Overlay([new ErofsLayer('top', input), lower], [data], settleRules());
  });
  if (!(overlay instanceof ErrnoError)) walkOverlay(overlay, { objectsMax: OBJECTS_MAX, lot, isSound: false });
}

/** Calls everything on an image and returns all answers as text. */
function interrogate(bytes: Uint8Array): string {
  const layer = attempt(() => new ErofsLayer('image', bytes));
  if (layer instanceof ErrnoError) return told(layer);
  const answers: string[] = [];
  const queue: Inode[] = [layer.root];
  for (const inode of queue) {
    answers.push(JSON.stringify(layer.attr(inode), exactly), ...askXattrs(layer, inode));
    if (isSymlink(inode.mode)) answers.push(told(attempt(() => layer.readlink(inode))));
    if (isRegular(inode.mode)) answers.push(...askData(layer, inode));
    if (isDirectory(inode.mode)) answers.push(...askNames(layer, inode, queue));
  }
  answers.push(told(attempt(() => typeof layer.openPath('a/../d//b'))));
  demand(Object.values(layer.statfs()).every(Number.isFinite), 'statfs gives a number that is none');
  for (const read of [readTree, readStaged]) answers.push(told(attempt(() => typeof read(layer.image))));
  return answers.join('\n');
}

const told = (answer: unknown): string => (answer instanceof ErrnoError ? answer.message : String(answer));

function askXattrs(layer: ErofsLayer, inode: Inode): string[] {
  const names = attempt(() => layer.listxattr(inode));
  if (names instanceof ErrnoError) return [told(names)];
  for (const name of names) demand(layer.getxattr(inode, name) !== undefined, `xattr ${name} is listed, and not there`);
  return [...names, 'user.missing', 'trusted.overlay.opaque'].map(name =>
    told(attempt(() => `${name} ${Buffer.from(layer.getxattr(inode, name) ?? []).toString('latin1')}`)),
  );
}

function askData(layer: ErofsLayer, inode: Inode): string[] {
  const data = attempt(() => layer.open(inode));
  if (data instanceof ErrnoError) return [told(data)];
  const { sizeBytes } = data;
  const out = new Uint8Array(8192);
  const reads = [0, 4000, sizeBytes - 5, sizeBytes, 2 ** 60].map(position => {
    const count = attempt(() => data.read(out, 0, out.length, Math.max(0, position)));
    if (count instanceof ErrnoError) return told(count);
    const want = Math.min(out.length, Math.max(0, sizeBytes - Math.max(0, position)));
    demand(count === want, `read gives ${count} bytes, not ${want}`);
    return Buffer.from(out.subarray(0, count)).toString('latin1');
  });
  const seeks = [3, 4].map(whence => told(attempt(() => data.seek(0, whence))));
  data.close();
  return [...reads, ...seeks];
}

function askNames(layer: ErofsLayer, directory: Inode, queue: Inode[]): string[] {
  const names: string[] = [];
  const listed = attempt(() => layer.readdir(directory, name => names.push(name)));
  for (const name of names) demand(/^[^/\0]{1,255}$/s.test(name), `a name of ${name.length} bytes is listed`);
  return [told(listed), ...names.slice(0, OBJECTS_MAX), '', 'missing', '\xff'.repeat(255)].map(name => {
    const child = attempt(() => layer.lookup(directory, name));
    if (child === undefined || child instanceof ErrnoError) return told(child);
    if (queue.length < OBJECTS_MAX && !queue.some(({ ino }) => ino === child.ino)) queue.push(child);
    return `${name} ${child.ino}`;
  });
}

export const images: Target = { make, check };
