import t from 'tap';
import { LayerContext } from '../../src/layers/context.ts';
import { LayerNumbers, type ObjectNumber } from '../../src/layers/numbers.ts';

const object = (minor: number, inoHigh: number, inoLow: number): ObjectNumber => ({ major: 8, minor, inoHigh, inoLow });
const LIMIT = 2 ** 44;

t.test('which number an object gets', async t => {
  const numbers = new LayerNumbers();
  for (const [rule, it, isOwn, want] of [
    ['its own', object(1, 0, 7), true, 7],
    ['its own, as large as it may be', object(1, 0x7ff, 0xffffffff), true, 2 ** 43 - 1],
    ['a larger one: the first range', object(1, 0x800, 5), true, 2 ** 43 + 5],
    ['the next one of that range', object(1, 0x803, 6), true, 2 ** 43 + 3 * 2 ** 32 + 6],
    ['another device: the second range', object(2, 0, 5), false, 2 ** 43 + 2 ** 34 + 5],
    ['the same again', object(2, 0, 5), false, 2 ** 43 + 2 ** 34 + 5],
    ['its next upper part: the third range', object(2, 4, 5), false, 2 ** 43 + 2 * 2 ** 34 + 5],
  ] as const) {
    t.equal(numbers.of(it, isOwn), want, rule);
  }
});

t.test('more devices than there are ranges', async t => {
  const numbers = new LayerNumbers();
  const all = new Set<number>();
  for (let minor = 0; minor < 1000; minor++)
    for (const low of [0, 1, 0xffffffff]) {
      const it = object(minor, minor & 3, low);
      const number = numbers.of(it, false);
      t.equal(numbers.of(it, false), number, `device ${minor}, ${low}: the same at each lookup`);
      all.add(number);
    }
  t.equal(all.size, 3000, 'no number is used twice');
  t.ok(
    [...all].every(number => number >= 2 ** 43 && number < LIMIT),
    'none is one that the device of the root could have',
  );
  t.equal(numbers.of(object(1, 0, 9), true), 9);
});

t.test('layers of one filesystem number alike', async t => {
  const [context, other] = [new LayerContext(), new LayerContext()];
  const numbers = context.numbersOf('device 8:1');
  t.equal(context.numbersOf('device 8:1'), numbers);
  t.not(context.numbersOf('device 8:2'), numbers, 'those of another one have their own');
  t.not(other.numbersOf('device 8:1'), numbers, 'and so has another stack');
});
t.end();
