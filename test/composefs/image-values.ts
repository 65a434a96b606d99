/** Images whose inodes share what they hold: what is shared is read once, and what would multiply is refused. */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { printImage } from '../../src/composefs/print.ts';
import { readTree } from '../../src/composefs/read.ts';
import { readStaged } from '../../src/composefs/read-staged.ts';
import { newInode } from '../../src/composefs/tree.ts';
import { writeImage } from '../../src/composefs/write.ts';
import type { Nid } from '../../src/erofs/format.ts';
import * as f from '../../src/erofs/format.ts';
import { openImage } from '../../src/erofs/image.ts';
import { ImageInode } from '../../src/erofs/inode.ts';
import { EUCLEAN } from '../../src/sys/errno.ts';
import { S_IFDIR, S_IFREG } from '../../src/sys/stat.ts';
import { type CraftedInode, craft, type Entry, nidOf } from '../fixtures/images/craft.ts';
import { directory, regular } from '../fixtures/mounts/hostile-mount.ts';
import { lowerdata } from '../fixtures/mounts/mounted.ts';
import { withScratch } from '../fixtures/scratch.ts';

t.setTimeout(300_000);

const BLOCK = 512;
const blockBits = 9;

/** An image of composefs with many inodes in its root, and bytes after its last block. */
function imageOf(inodes: CraftedInode[], type: number, more: { shared?: number; after?: Uint8Array } = {}): Buffer {
  const names = inodes.map((_, i): Entry => [`n${String(i).padStart(6, '0')}`, i + 1, type]);
  const shared = more.shared === undefined ? [] : [[f.XATTR_INDEX_USER, 'big', 'v'] as const];
  const image = craft({ blockBits, inodes: [directory(names, { layout: f.LAYOUT_FLAT_PLAIN }), ...inodes], shared });
  const bytes = Buffer.concat([image, more.after ?? new Uint8Array(0)]);
  bytes.writeUInt32LE(f.COMPOSEFS_MAGIC, 0);
  bytes.writeUInt32LE(f.COMPOSEFS_HEADER_VERSION, 4);
  if (more.shared !== undefined) bytes.writeUInt16LE(more.shared, bytes.indexOf('\x03\x01\x01\0big', 0, 'latin1') + 2);
  return bytes;
}

const times = (count: number, inode: (i: number) => CraftedInode): CraftedInode[] =>
  Array.from({ length: count }, (_, i) => inode(i));

/** One shared xattr of 60,000 bytes for every inode. */
const sharedXattr = (count: number): Buffer =>
  imageOf(
    times(count, () => regular({ data: Buffer.from('x'), layout: f.LAYOUT_FLAT_INLINE, shared: [0] })),
    f.FT_REG_FILE,
    { shared: 60_000, after: Buffer.alloc(70_000, 'A') },
  );

/** Directories that have the same dirent blocks, with names of one file, beside that file. */
function sharedDirents(count: number): Buffer {
  const run = Buffer.alloc(2 << 20);
  const perBlock = BLOCK / 16;
  for (let i = 0; i < run.length / 16; i++) {
    const at = i - (i % perBlock);
    const [entryAt, nameAt] = [at * 16 + (i - at) * 12, perBlock * 12 + (i - at) * 4];
    run.writeBigUInt64LE(BigInt(nidOf({ blockBits, inodes: [] }, 1)), entryAt);
    run.writeUInt16LE(nameAt, entryAt + f.Dirent.nameoff);
    run.write(i.toString(36).padStart(4, '0'), at * 16 + nameAt, 'latin1');
  }
  const shared = (u: number): CraftedInode => {
    const { entries, ...inode } = directory([]);
    return { ...inode, layout: f.LAYOUT_FLAT_PLAIN, sizeBytes: run.length, u };
  };
  const make = (u: number): Buffer =>
    imageOf([regular({ data: Buffer.from('x') }), ...times(count, () => shared(u))], f.FT_DIR, { after: run });
  return make((make(0).length - run.length) / BLOCK);
}

/** Files that have the same blocks of data. */
function sharedData(count: number): Buffer {
  const make = (u: number): Buffer =>
    imageOf(
      times(count, () => regular({ sizeBytes: 5000, u })),
      f.FT_REG_FILE,
      { after: Buffer.alloc(10 * BLOCK, 'd') },
    );
  return make((make(0).length - 10 * BLOCK) / BLOCK);
}

/** An entry of a shared xattr of 60,000 bytes at every fourth byte, one for each inode. */
function overlappingXattrs(count: number): Buffer {
  const entry = Buffer.from([3, f.XATTR_INDEX_USER, 0x60, 0xea]); // its name are the first bytes of the next one
  const after = Buffer.alloc(70_000, entry);
  const file = regular({ data: Buffer.from('x'), layout: f.LAYOUT_FLAT_INLINE, shared: [0] });
  const bytes = imageOf(
    times(count, () => file),
    f.FT_REG_FILE,
    { shared: 1, after },
  );
  const image = openImage(bytes);
  for (let i = 1; i <= count; i++) {
    const { xattrAt } = new ImageInode(image, nidOf({ blockBits, inodes: [] }, i) as Nid);
    bytes.writeUInt32LE((bytes.length - after.length - image.sharedAt) / 4 + i, xattrAt + f.XattrHeader.SIZE);
  }
  return bytes;
}

for (const [rule, image] of [
  ['directories with the same dirent blocks', sharedDirents(40)],
  ['files with the same data blocks', sharedData(5000)],
  ['shared xattrs that overlap', overlappingXattrs(400)],
] as const) {
  const refused = { errno: EUCLEAN, message: /inodes overlap/ };
  t.throws(() => readTree(openImage(image)), refused, `refused as a tree: ${rule}`);
  t.throws(() => readStaged(openImage(image)), refused, `refused for a new image: ${rule}`);
}
t.match(
  [...printImage(sharedDirents(40))].filter(line => line.includes('inodes overlap')),
  { length: 31 },
  'a listing of all bytes shows as corrupt what it leaves out',
);
t.equal(readTree(openImage(sharedData(3))).entries.size, 3, 'a few files may have the same blocks');
t.equal(readStaged(openImage(sharedData(3))).count, 4, 'in a new image, too');

const tree = readTree(openImage(sharedXattr(3)));
t.same(
  [...tree.entries.values()].map(({ inode }) => inode.xattrs.get('user.big')?.length),
  [60_000, 60_000, 60_000],
  'a shared xattr is there for each inode',
);

/** Directories in each other, each with a file that is listed after them. */
function deepImage(levels: number): Uint8Array {
  const root = newInode(S_IFDIR | 0o755);
  let inner = root;
  for (let i = 0; i < levels; i++) {
    const next = newInode(S_IFDIR | 0o755);
    inner.entries.set('d'.repeat(200), { inode: next, link: false });
    inner.entries.set('e', { inode: newInode(S_IFREG | 0o644), link: false });
    inner = next;
  }
  return writeImage(root);
}

/** The xattrs of 1,500 inodes would be 90 MB, the paths of 800 directories 64 MB. */
withScratch(scratch => {
  const [shared, deep] = [join(scratch, 'shared'), join(scratch, 'deep')];
  writeFileSync(shared, sharedXattr(1500));
  writeFileSync(deep, deepImage(800));
  for (const args of [
    ['info', 'dump', shared],
    ['info', '--json', 'dump', shared],
    ['info', 'objects', shared],
    ['relink', shared, '-o', '-', '--to=data-only'],
    ['compare', shared, shared],
    ['info', 'ls', deep],
    ['compare', deep, deep],
  ]) {
    const { status, stderr } = spawnSync(process.execPath, [lowerdata, ...args], {
      env: { ...process.env, NODE_OPTIONS: '--max-old-space-size=48' },
      stdio: ['ignore', 'ignore', 'pipe'],
      encoding: 'latin1',
    });
    t.same([status, stderr.slice(-200)], [0, ''], `in 48 MB: ${args.join(' ').replaceAll(`${scratch}/`, '')}`);
  }
});
