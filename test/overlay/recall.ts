/** What one image finds again by a number alone is what lookup finds by name, for each name of each golden image. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { FT_DIR, FT_REG_FILE } from '../../src/erofs/format.ts';
import { ErofsLayer } from '../../src/layers/erofs.ts';
import type { Node } from '../../src/overlay/node.ts';
import { Overlay } from '../../src/overlay/overlay.ts';
import { dir, FakeLayer } from '../fixtures/fake-layer.ts';
import { craft, type Entry } from '../fixtures/images/craft.ts';
import { goldenImages } from '../fixtures/images/golden-images.ts';
import { plainOptions } from '../fixtures/layers.ts';
import { directory, regular } from '../fixtures/mounts/hostile-mount.ts';

const DT_DIR = 4;
const data = (): FakeLayer => new FakeLayer('C', dir());
const overlayOf = (bytes: Uint8Array, dataLayers = [data()]): Overlay =>
  new Overlay([new ErofsLayer('A', bytes)], dataLayers, { ...plainOptions, metacopy: true, redirectDir: 'follow' });

/** All that a node says, with the numbers of inodes in their place. */
const said = (node: Node | number) =>
  typeof node === 'number'
    ? node
    : {
        ...node,
        ...{ top: node.top.ino, origin: node.origin?.ino, mode: node.top.mode },
        stack: node.stack.map(({ ino }) => ino),
      };

for (const [name, path] of goldenImages()) {
  t.test(name, async t => {
    const overlay = overlayOf(readFileSync(path));
    t.ok(overlay.recalls, 'it recalls');
    const directories = [overlay.root];
    const seen = new Set<number>();
    let [found, numbered, wrong] = [0, 0, 0];
    for (const directory of directories) {
      for (const entry of overlay.list(directory)) {
        const node = overlay.lookup(directory, entry.name);
        if (typeof node === 'number') continue;
        found++;
        if (JSON.stringify(said(overlay.recall(node.ino))) !== JSON.stringify(said(node))) wrong++;
        if (entry.ino !== undefined) numbered++;
        if (entry.ino !== undefined && entry.ino !== node.ino) wrong++;
        if (entry.dtype === DT_DIR && !seen.has(node.ino)) directories.push(node);
        seen.add(node.ino);
      }
    }
    t.equal(wrong, 0, `of ${found} names none is recalled as something else`);
    const below = found - overlay.list(overlay.root).length;
    t.ok(numbered >= below, 'listings below the root say the number of each name that is found');
  });
}

t.test('a directory whose names are not in order says no numbers: lookup may not find them', async t => {
  for (const [names, isOrdered] of [
    [['a', 'b', 'c'], true],
    [['b', 'a', 'c'], false],
    [['a', 'c', 'b'], false],
    [['a', 'a', 'b'], false],
  ] as const) {
    const inner = directory(names.map((name): Entry => [name, 2, FT_REG_FILE]));
    const inodes = [directory([['d', 1, FT_DIR]]), inner, regular({})];
    const overlay = overlayOf(craft({ blockBits: 12, inodes }));
    const entries = overlay.list(overlay.lookup(overlay.root, 'd') as Node);
    t.strictSame(
      entries.map(({ name }) => name),
      names,
      `${names}: all are listed`,
    );
    t.equal(
      entries.every(({ ino }) => ino !== undefined),
      isOrdered,
      `${names}: numbers`,
    );
    t.equal(
      entries.some(({ ino }) => ino !== undefined),
      isOrdered,
      `${names}: all or none`,
    );
  }
});

t.test('other stacks do not recall', async t => {
  const [[, path]] = goldenImages() as [[string, string]];
  const layer = (name: string): ErofsLayer => new ErofsLayer(name, readFileSync(path));
  t.notOk(new Overlay([layer('A'), layer('B')], [], plainOptions).recalls, 'two images');
  const plain = new Overlay([data()], [], plainOptions);
  t.notOk(plain.recalls, 'a directory');
  t.throws(() => plain.recall(1), { name: 'EIO' });
});

t.end();
