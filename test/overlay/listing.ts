import t from 'tap';
import * as f from '../../src/erofs/format.ts';
import { ErofsLayer } from '../../src/layers/erofs.ts';
import { type Listing, NumberedListing, PositionedListing } from '../../src/overlay/listing.ts';
import { DT_DIR, DT_REG } from '../../src/sys/stat.ts';
import { craft } from '../fixtures/images/craft.ts';
import { directory as craftedDirectory, regular } from '../fixtures/mounts/hostile-mount.ts';

type Place = readonly [name: string, next: number];
const entriesOf = (text: string): { name: string; dtype: number }[] => [...text].map(name => ({ name, dtype: DT_REG }));

/** Up to `count` entries from a position on. */
function read(listing: Listing, position: number, count = 1000): Place[] {
  const places: Place[] = [];
  listing.from(position, ({ name }, next) => places.length < count && places.push([name, next]) > 0);
  return places;
}
const names = (places: readonly Place[]): string => places.map(([name]) => name).join('');
const nextOf = (places: readonly Place[]): number => places.at(-1)?.[1] ?? 0;

for (const [rule, before, readThen, after, want] of [
  ['nothing changed', 'abcdef', 3, 'abcdef', 'def'],
  ['names that were read are removed: none that stays is missed', 'abcdef', 3, 'def', 'def'],
  ['the order of the layer changed: none is missed, none comes twice', 'abcdef', 3, 'fedcba', 'def'],
  ['names to come are removed', 'abcdef', 3, 'abce', 'e'],
  ['the next name is removed', 'abcdef', 3, 'abcef', 'ef'],
  ['all are removed', 'abcdef', 3, '', ''],
  ['new names come at the end', 'abc', 1, 'xaybzc', 'bcxyz'],
  ['a listing that was read to its end has new names alone', 'abc', 3, 'xabc', 'x'],
] as const) {
  const first = new NumberedListing(entriesOf(before));
  const position = nextOf(read(first, 0, readThen));
  const second = new NumberedListing(entriesOf(after), first);
  t.equal(names(read(second, position)), want, rule);
  t.equal([...names(read(second, 0))].sort().join(''), [...after].sort().join(''), `${rule}: a new reader sees all`);
}

t.test('a position stays with its name through many listings', async t => {
  let listing = new NumberedListing(entriesOf('abcdefgh'));
  const position = nextOf(read(listing, 0, 4));
  for (const text of ['bcdefgh', 'zcdfgh', 'yxfh', 'hfyx1']) listing = new NumberedListing(entriesOf(text), listing);
  t.equal(names(read(listing, position)), 'fhyx1');
  t.equal(read(listing, position)[0]?.[1], 6, 'the sixth name of the first one');
});

t.test('positions without an entry', async t => {
  const listing = new NumberedListing(entriesOf('abc'));
  for (const position of [3, 1e9, 2 ** 63]) t.same(read(listing, position), [], `nothing from ${position} on`);
});

t.test('what a listing takes', async t => {
  const [short, long] = ['x', 'x'.repeat(255)].map(name => new NumberedListing([{ name, dtype: DT_REG }]).bytes);
  t.equal((long as number) - (short as number), 254, 'names count');
});

t.test('the directory of an image is listed from any position and takes no memory', async t => {
  const many = Array.from({ length: 300 }, (_, i) => [`name ${1000 + i}`, 1, f.FT_REG_FILE] as const);
  const layer = new ErofsLayer(
    'image',
    craft({
      blockBits: 9,
      inodes: [craftedDirectory([...many], { layout: f.LAYOUT_FLAT_PLAIN }), regular({ data: Buffer.from('x') })],
    }),
  );
  const listing = new PositionedListing(layer.root);
  const whole = read(listing, 0);
  t.same(
    whole.map(([name]) => name),
    many.map(([name]) => name),
    'all names, in order, without the dots',
  );
  for (const [i, [, next]] of whole.entries()) {
    if (i % 7 === 0) t.same(read(listing, next), whole.slice(i + 1), `from ${next} on`);
  }
  t.ok(
    whole.every(([, next], i) => next > (whole[i - 1]?.[1] ?? 0)),
    'positions ascend',
  );
  t.ok(nextOf(whole) < 2 ** 31, 'and have room in 32 bits');
  t.equal(listing.bytes, 0);
  t.same(read(listing, 2 ** 40), [], 'nothing past its end');
});

t.test('entries have the number of an inode only where a lookup leads to it', async t => {
  for (const [rule, order, want] of [
    ['names in order', ['a', 'b'], true],
    ['names out of order', ['b', 'a'], false],
    ['a name twice', ['a', 'a'], false],
  ] as const) {
    const entries = order.map(name => [name, 0, f.FT_DIR] as const);
    const layer = new ErofsLayer('image', craft({ blockBits: 9, inodes: [craftedDirectory([...entries])] }));
    const numbers: (number | undefined)[] = [];
    new PositionedListing(layer.root).from(0, ({ ino, dtype }) => {
      t.equal(dtype, DT_DIR);
      return numbers.push(ino) > 0;
    });
    t.same(
      numbers.map(ino => ino !== undefined),
      [want, want],
      rule,
    );
  }
});
t.end();
