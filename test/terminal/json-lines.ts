import t from 'tap';
import { listLines, objectLines, valueLines } from '../../src/terminal/json-lines.ts';

/** The text is that of JSON.stringify. */
for (const value of [[], [1], [{}, 'a\n', null], [{ a: 1, b: [1, 2] }, { c: 'é' }]])
  t.equal(
    Buffer.from([...listLines(value.map(valueLines))].join('\n'), 'latin1').toString(),
    JSON.stringify(value, null, 2),
    `a list of ${value.length}`,
  );

const entries = [{ path: '/' }, { path: '/a', xattrs: { b: 'c' } }];
const lines = objectLines([
  ['image', valueLines('x')],
  ['entries', listLines(entries.map(valueLines))],
  ['none', listLines([])],
]);
t.equal([...lines].join('\n'), JSON.stringify({ image: 'x', entries, none: [] }, null, 2), 'an object');
