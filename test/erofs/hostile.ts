import t from 'tap';
import { SuperBlock } from '../../src/erofs/format.ts';
import { openImage, readImageFile } from '../../src/erofs/image.ts';
import { ErofsLayer } from '../../src/layers/erofs.ts';
import type { Inode } from '../../src/layers/layer.ts';
import { ErrnoError } from '../../src/sys/errno.ts';
import { isDirectory, isRegular, isSymlink } from '../../src/sys/stat.ts';
import { goldenImages } from '../fixtures/images/golden-images.ts';

/** Objects that one walk looks at, at most: a damaged tree may be a graph with cycles. */
const OBJECTS_MAX = 1000;
const MUTATIONS = 3000;
/** A walk of a sound image takes about 2 ms. */
const SECONDS_MAX = 1;

/** Asks an image everything; the number of questions that ended in an ErrnoError. Any other error comes through. */
function interrogate(bytes: Uint8Array): number {
  let refused = 0;
  const ask = <T>(question: () => T): T | undefined => {
    try {
      return question();
    } catch (error) {
      if (!(error instanceof ErrnoError)) throw error;
      refused++;
      return undefined;
    }
  };
  const layer = ask(() => new ErofsLayer('image', bytes));
  if (!layer) return refused;
  const out = new Uint8Array(8192);
  const queue: Inode[] = [layer.root];
  for (let i = 0; i < queue.length && i < OBJECTS_MAX; i++) {
    const inode = queue[i] as Inode;
    const attr = layer.attr(inode);
    for (const name of ask(() => layer.listxattr(inode)) ?? []) ask(() => layer.getxattr(inode, name));
    ask(() => layer.getxattr(inode, 'trusted.overlay.metacopy'));
    if (isSymlink(inode.mode)) ask(() => layer.readlink(inode));
    if (isRegular(inode.mode)) {
      const data = ask(() => layer.open(inode));
      for (const at of [0, 4000, attr.size - 5]) ask(() => data?.read(out, 0, out.length, Math.max(0, at)));
      for (const whence of [3, 4]) ask(() => data?.seek(0, whence));
    }
    if (!isDirectory(inode.mode)) continue;
    const names: string[] = [];
    ask(() => layer.readdir(inode, name => names.push(name)));
    for (const name of [...names, '', 'missing', '\xff'.repeat(255)]) {
      const child = ask(() => layer.lookup(inode, name));
      if (child) queue.push(child);
    }
  }
  ask(() => layer.openPath('00/../a/b/c'));
  layer.statfs();
  return refused;
}

/** Numbers that are the same in every run. Source: G. Marsaglia, "Xorshift RNGs". */
function random(seed: number): () => number {
  let x = seed;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return x >>> 0;
  };
}

const images = goldenImages().filter(([name]) => /^(small|names|xattr|special|hardlink|acl|sizes|overlay)-/.test(name));

t.test('a sound image refuses nothing', async t => {
  for (const [name, path] of images) t.equal(interrogate(readImageFile(path)), 0, name);
});

t.test('images cut off at every 512 bytes', async t => {
  const bytes = readImageFile(images.find(([name]) => name === 'small-0.cfs')?.[1] as string);
  for (let length = 0; length < bytes.length; length += 512) {
    const cut = bytes.slice(0, length);
    t.throws(() => openImage(cut), { message: length > 1024 ? /cut off: \d+ bytes of \d+/ : /no superblock/ });
    // as if the superblock knew, so that all that reads the image meets its end
    if (length > 1024) new DataView(cut.buffer).setUint32(1024 + SuperBlock.blocks_lo, Math.floor(length / 4096), true);
    const [refused, seconds] = timed(() => interrogate(cut));
    if (seconds > SECONDS_MAX) t.fail(`${length} bytes took ${seconds} s`);
    if (length < bytes.length - 4096 && refused === 0) t.fail(`${length} bytes: nothing was refused`);
  }
  t.pass('every walk ends, and misses something');
});

for (const [name, path] of images) {
  t.test(`${name} with wrong bytes`, async t => {
    const bytes = readImageFile(path);
    const next = random(20_231_124);
    let refused = 0;
    for (let i = 0; i < MUTATIONS / images.length; i++) {
      const changed = bytes.slice();
      // One to eight bytes, half of the time values that numbers are sensitive to, in places that hold something.
      for (let k = (next() % 8) + 1; k > 0; k--) {
        let at = next() % changed.length;
        while (changed[at] === 0 && next() % 8 !== 0) at = (at + 1) % changed.length;
        changed[at] = next() % 2 === 0 ? ([0, 1, 0x7f, 0x80, 0xff][next() % 5] as number) : next() & 0xff;
      }
      const [count, seconds] = timed(() => interrogate(changed));
      if (count > 0) refused++;
      if (seconds > SECONDS_MAX) t.fail(`mutation ${i} took ${seconds} s`);
    }
    t.pass('every question is answered or ends in an ErrnoError');
    t.ok(refused > 0, `${refused} images were refused something`);
  });
}

function timed<T>(work: () => T): [T, number] {
  const start = process.hrtime.bigint();
  const result = work();
  return [result, Number(process.hrtime.bigint() - start) / 1e9];
}
