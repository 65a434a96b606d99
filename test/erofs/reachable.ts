/** Proves src/erofs/reachable.ts: what it holds is what names lead to, in golden images, damaged ones and hostile ones. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { FT_DIR, FT_REG_FILE } from '../../src/erofs/format.ts';
import { openImage } from '../../src/erofs/image.ts';
import { ReachableInodes } from '../../src/erofs/reachable.ts';
import { ErofsLayer } from '../../src/layers/erofs.ts';
import type { Inode } from '../../src/layers/layer.ts';
import { craft } from '../fixtures/images/craft.ts';
import { goldenImages } from '../fixtures/images/golden-images.ts';
import { directory, regular } from '../fixtures/mounts/hostile-mount.ts';

/** The numbers of all that lookup finds below the root of a layer, and of the root. */
function found(layer: ErofsLayer): Set<number> {
  const numbers = new Set([layer.root.ino]);
  const directories: Inode[] = [layer.root];
  for (const at of directories) {
    const names: string[] = [];
    if (at.mode >> 12 === 4) layer.readdir(at, name => names.push(name));
    for (const name of names) {
      const inode = layer.lookup(at, name);
      if (inode === undefined || numbers.has(inode.ino)) continue;
      numbers.add(inode.ino);
      directories.push(inode);
    }
  }
  return numbers;
}

for (const [name, path] of goldenImages()) {
  const layer = new ErofsLayer(name, readFileSync(path));
  const wanted = found(layer);
  const slots = Array.from({ length: layer.inoLimit + 8 }, (_, nid) => nid);
  t.same(new Set(slots.filter(nid => layer.holds(nid))), wanted, `${name}: ${wanted.size} inodes`);
}

const perInode = 4096 / 32;
for (const [rule, inodes, held] of [
  ['what no name leads to is not held', [directory([['a', 1, FT_REG_FILE]]), regular({}), regular({})], [0, 1]],
  [
    'a type that a name has wrong does not hide a directory',
    [directory([['a', 1, FT_REG_FILE]]), directory([['b', 2, FT_DIR]]), regular({})],
    [0, 1, 2],
  ],
  [
    'a directory in itself ends',
    [
      directory([['a', 1, FT_DIR]]),
      directory([
        ['b', 1, FT_DIR],
        ['c', 0, FT_DIR],
      ]),
    ],
    [0, 1],
  ],
  [
    'a damaged directory leaves the others',
    [
      directory([
        ['a', 1, FT_DIR],
        ['b', 2, FT_DIR],
      ]),
      directory([['c', 3, FT_REG_FILE]], { sizeBytes: 2 ** 40 }),
      directory([['d', 4, FT_REG_FILE]]),
      regular({}),
      regular({}),
    ],
    [0, 1, 2, 4],
  ],
] as const) {
  const image = openImage(craft({ blockBits: 12, inodes: [...inodes] }));
  const reachable = new ReachableInodes(image);
  const numbers = inodes.map((_, i) => i).filter(i => reachable.has(image.rootNid + i * perInode));
  t.same(numbers, held, rule);
  t.notOk(reachable.has(2 ** 40), 'nothing beyond the image');
}
t.end();
