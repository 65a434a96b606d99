import t from 'tap';
import { findDirent, listDirents } from '../../src/erofs/dirents.ts';
import type { Nid } from '../../src/erofs/format.ts';
import * as f from '../../src/erofs/format.ts';
import { openImage } from '../../src/erofs/image.ts';
import { ImageInode } from '../../src/erofs/inode.ts';
import type { ByteString } from '../../src/sys/bytes.ts';
import { S_IFDIR, S_IFREG } from '../../src/sys/stat.ts';
import { type CraftedImage, craft } from '../fixtures/images/craft.ts';
import { sameAsKernel } from '../fixtures/mounts/kernel-mount.ts';

function directoryOf(names: ByteString[], blockBits = 9): CraftedImage {
  const entries = ['.', '..', ...names].map(name => [name, name.length < 3 ? 0 : 1, name.length < 3 ? 2 : 1] as const);
  entries.sort(([a], [b]) => (a < b ? -1 : 1));
  const root = { mode: S_IFDIR | 0o755, layout: f.LAYOUT_FLAT_PLAIN, extended: true, entries };
  return { blockBits, inodes: [root, { mode: S_IFREG | 0o644, layout: f.LAYOUT_FLAT_PLAIN }] };
}

const everyByte = Array.from({ length: 255 }, (_, i) => i + 1).filter(byte => byte !== 0x2f);
const long = everyByte.map(byte => String.fromCharCode(byte).repeat(255));
const prefixes = ['aaa', 'aaaa', 'aaab', 'aab', 'aaa\xff', 'aaa\x01', 'zzz'];
const short = everyByte.map(byte => `n ${String.fromCharCode(byte)}`);

for (const [rule, names, bits] of [
  ['one name', ['only'], 9],
  ['names that are prefixes of each other', prefixes, 9],
  ['names of every byte', short, 9],
  ['names of 255 bytes, one a block', long, 9],
  ['the same in blocks of 4 KiB', long, 12],
] as const) {
  t.test(rule, async t => {
    const crafted = craft(directoryOf([...names], bits));
    sameAsKernel(t, rule, crafted);
    const image = openImage(crafted);
    const root = new ImageInode(image, image.rootNid);
    const listed: ByteString[] = [];
    listDirents(image, root, name => listed.push(name));
    t.same(listed, ['.', '..', ...names].sort(), 'lists all, in the order of their bytes');
    const wanted = new Set<ByteString>(listed);
    const missed = listed.filter(name => findDirent(image, root, name) === undefined);
    t.same(missed, [], 'finds all');
    const near = listed.flatMap(name => [
      `${name}\x01`,
      name.slice(0, -1),
      `${name.slice(0, -1)}\x02`,
      `\x01${name}`,
      `\xff${name}`,
    ]);
    const wrong = near.filter(name => !wanted.has(name) && findDirent(image, root, name) !== undefined);
    t.same(wrong, [], 'finds no name that is near');
  });
}

t.test('corrupt directories', async t => {
  const names = Array.from({ length: 20 }, (_, i) => `name ${i}`);
  const clean = craft(directoryOf(names));
  const clear = openImage(clean);
  const root = new ImageInode(clear, clear.rootNid);
  const block = root.u * clear.blockBytes;
  const inodeAt = clear.metaAt + root.nid * f.SLOT_BYTES;
  const D = f.Dirent;
  const first = (v: DataView, nameoff: number) => v.setUint16(block + D.nameoff, nameoff, true);
  for (const [rule, change, message] of [
    ['no dirents', (v: DataView) => first(v, 0), /first name at 0/],
    ['a part of a dirent', (v: DataView) => first(v, 13), /first name at 13/],
    ['dirents past the block', (v: DataView) => first(v, 516), /first name at 516/],
    [
      'a name past the block',
      (v: DataView) => v.setUint16(block + 11 * D.SIZE + D.nameoff, 600, true),
      /name at 600|after the next/,
    ],
    [
      'names out of order',
      (v: DataView) => v.setUint16(block + 10 * D.SIZE + D.nameoff, 396, true),
      /name after the next one/,
    ],
    [
      'an empty name',
      (v: DataView) => v.setUint8(block + v.getUint16(block + 11 * D.SIZE + D.nameoff, true), 0),
      /has the name/,
    ],
    [
      'a slash in a name',
      (v: DataView) => v.setUint8(block + v.getUint16(block + 11 * D.SIZE + D.nameoff, true) + 2, 0x2f),
      /has the name/,
    ],
    [
      'more bytes than the image',
      (v: DataView) => v.setUint32(inodeAt + f.InodeExtended.i_size, 0x7fffffff, true),
      /more than the image/,
    ],
    [
      'a block past the image',
      (v: DataView) => v.setUint32(inodeAt + f.InodeExtended.i_u, 0x7fffffff, true),
      /past the end/,
    ],
    [
      'a hole',
      (v: DataView) => {
        v.setUint32(inodeAt + f.InodeExtended.i_u, f.NULL_ADDR, true);
        v.setUint16(inodeAt + f.InodeExtended.startblk_hi, 0xffff, true);
      },
      /no dirent/,
    ],
    ['compressed', (v: DataView) => v.setUint16(inodeAt, (f.LAYOUT_COMPRESSED_FULL << 1) | 1, true), /compressed/],
  ] as const) {
    const changed = clean.slice();
    change(new DataView(changed.buffer));
    const image = openImage(changed);
    const directory = new ImageInode(image, image.rootNid);
    t.throws(
      () => listDirents(image, directory, () => {}),
      { name: /EUCLEAN|EOPNOTSUPP/, message },
      `listing: ${rule}`,
    );
    for (const name of names) lookupEnds(image, directory, name);
  }
  t.pass('every lookup in them ends');
});

t.test('a nid past the image', async t => {
  const names = Array.from({ length: 20 }, (_, i) => `name ${i}`).sort();
  const changed = craft(directoryOf(names));
  const root = new ImageInode(openImage(changed), openImage(changed).rootNid);
  const at = root.u * openImage(changed).blockBytes + 10 * f.Dirent.SIZE;
  new DataView(changed.buffer).setUint32(at + f.Dirent.nid + 4, 0xffffffff, true);
  const image = openImage(changed);
  const directory = new ImageInode(image, image.rootNid);
  const listed: [ByteString, Nid][] = [];
  listDirents(image, directory, (name, nid) => void listed.push([name, nid]));
  t.strictSame(
    listed.map(([name]) => name),
    ['.', '..', ...names],
    'the name is listed, as by the kernel',
  );
  const [name, nid] = listed[10] as [ByteString, Nid];
  t.equal(findDirent(image, directory, name), nid);
  t.throws(
    () => new ImageInode(image, nid),
    { name: 'EUCLEAN', message: /past the end/ },
    'but there is no such inode',
  );
});

function lookupEnds(
  image: Parameters<typeof findDirent>[0],
  directory: ImageInode,
  name: ByteString,
): Nid | undefined | string {
  try {
    return findDirent(image, directory, name);
  } catch (error) {
    return (error as Error).name;
  }
}
