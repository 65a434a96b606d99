import t from 'tap';
import {
  documentLines,
  jsonLine,
  listDocumentLines,
  listLines,
  objectLines,
  valueLines,
} from '../../src/terminal/json-lines.ts';

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

const document = JSON.stringify({ version: 1, entries }, null, 2);
t.equal(documentLines({ entries }).join('\n'), document, 'a document');
t.equal([...listDocumentLines('entries', entries.map(valueLines))].join('\n'), document, 'a document line by line');
t.equal(jsonLine({ a: ['é'] }), Buffer.from('{"version":1,"a":["é"]}\n').toString('latin1'), 'a document of one line');
