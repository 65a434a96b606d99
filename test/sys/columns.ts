import t from 'tap';
import { withRoom } from '../../src/sys/columns.ts';

const column = Uint32Array.of(1, 2, 3);
for (const [rule, count, length] of [
  ['what fits stays', 3, 3],
  ['one more doubles it', 4, 6],
  ['many more are all there', 100, 100],
] as const) {
  const found = withRoom(column, count);
  t.same([found.length, [...found.subarray(0, 3)]], [length, [1, 2, 3]], rule);
}
t.equal(withRoom(column, 2), column, 'and is no copy');
t.ok(withRoom(Float64Array.of(0.5), 2) instanceof Float64Array, 'the type stays');
