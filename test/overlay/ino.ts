import t from 'tap';
import type { Inode } from '../../src/layers/layer.ts';
import { InodeNumbers } from '../../src/overlay/ino.ts';
import { dir, FakeLayer } from '../fixtures/fake-layer.ts';

const object = (filesystem: string, ino: number): Inode => ({
  ...new FakeLayer('A', dir()).root,
  layer: new FakeLayer('A', dir(), filesystem),
  ino,
});
const numbers = new InodeNumbers(['ext4', 'image 1', 'ext4', 'image 2']);

for (const [rule, inode, want] of [
  ['I3: the first filesystem keeps its numbers', object('ext4', 17), 17],
  ['I3: another one has numbers of its own', object('image 1', 17), 2 ** 44 + 17],
  ['I3: a repeated filesystem does not count twice', object('image 2', 17), 2 ** 45 + 17],
  ['the largest number of one is below the smallest of the next', object('ext4', 2 ** 44 - 1), 2 ** 44 - 1],
] as const) {
  t.equal(numbers.of(inode), want, rule);
}

const many = (count: number): string[] => Array.from({ length: count }, (_, i) => `f${i}`);
const last = new InodeNumbers(many(512)).of(object('f511', 2 ** 44 - 1));
t.equal(BigInt(last), 2n ** 53n - 1n, 'the largest number there can be is exact');
t.throws(() => new InodeNumbers(many(513)), { name: 'ENFILE' }, 'more filesystems than fit are refused');
t.end();
