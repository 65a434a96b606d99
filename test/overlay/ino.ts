import t from 'tap';
import type { Inode } from '../../src/layers/layer.ts';
import { InodeNumbers, type Numbering } from '../../src/overlay/ino.ts';
import { dir, FakeLayer } from '../fixtures/fake-layer.ts';

const object = (filesystem: string, ino: number): Inode => ({
  ...new FakeLayer('A', dir()).root,
  layer: new FakeLayer('A', dir(), filesystem),
  ino,
});
const directory = (filesystem: string): Numbering => ({ filesystem });
const image = (filesystem: string, inoLimit: number): Numbering => ({ filesystem, inoLimit });
/** The end of the numbers that are not given one by one. */
const END = 2 ** 32 - 2 ** 28;
const LARGEST = 2 ** 44 - 1;

t.test('which number an object gets', async t => {
  const mixed = [directory('ext4'), image('image 1', 100), directory('ext4'), image('image 2', 50), directory('xfs')];
  const half = (END - 150) / 2;
  for (const [rule, layers, ino32, inode, want] of [
    ['I3: one filesystem keeps its numbers', [directory('ext4')], false, object('ext4', LARGEST), LARGEST],
    ['one image keeps its numbers', [image('i', 100)], true, object('i', 99), 99],
    ['I3: the first filesystem keeps its numbers', mixed, false, object('ext4', 17), 17],
    ['the others follow each other', mixed, false, object('image 1', 17), half + 17],
    ['I3: a repeated filesystem does not count twice', mixed, false, object('image 2', 17), half + 100 + 17],
    ['directories share what images leave', mixed, false, object('xfs', half - 1), END - 1],
    ['what is larger is above 2^44', mixed, false, object('ext4', half), 2 ** 44 + half],
    ['and apart from other filesystems', mixed, false, object('xfs', half), 4 * 2 ** 44 + half],
    ['with ino32 it is one of the last', mixed, true, object('xfs', LARGEST), 2 ** 32 - 2],
    ['one filesystem, too', [directory('ext4')], true, object('ext4', END), 2 ** 32 - 2],
    ['and keeps what fits', [directory('ext4')], true, object('ext4', END - 1), END - 1],
    ['an image that does not fit', [image('i', 50), image('huge', 2 ** 33)], false, object('huge', 2 ** 33 - 1), NaN],
  ] as const) {
    const number = new InodeNumbers(layers, ino32).of(inode);
    t.equal(number, Number.isNaN(want) ? 2 * 2 ** 44 + 2 ** 33 - 1 : want, rule);
  }
});

t.test('no number is used twice, and none changes', async t => {
  const layers = [directory('a'), image('b', 3), directory('c'), image('d', 2 ** 31), directory('e')];
  for (const ino32 of [false, true]) {
    const numbers = new InodeNumbers(layers, ino32);
    const inos = [0, 1, 2, 2 ** 28, 2 ** 30, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 43, LARGEST];
    const objects = layers.flatMap(({ filesystem, inoLimit = Number.POSITIVE_INFINITY }) =>
      inos.filter(ino => ino < inoLimit).map(ino => object(filesystem, ino)),
    );
    const shown = objects.map(inode => numbers.of(inode));
    t.equal(new Set(shown).size, objects.length, 'all differ');
    t.same(
      objects.map(inode => numbers.of(inode)),
      shown,
      'and stay',
    );
    t.ok(
      shown.every(number => number < (ino32 ? 2 ** 32 - 1 : 2 ** 53)),
      'and are small enough',
    );
  }
});

const many = (count: number): Numbering[] => Array.from({ length: count }, (_, i) => directory(`f${i}`));
const last = new InodeNumbers(many(511)).of(object('f510', LARGEST));
t.equal(BigInt(last), 2n ** 53n - 1n, 'the largest number there can be is exact');
t.throws(() => new InodeNumbers(many(512)), { name: 'ENFILE' }, 'more filesystems than fit are refused');
t.end();
