/** Compares the reader of JSON with that of JavaScript, which is laxer in two ways. */
import fc from 'fast-check';
import t from 'tap';
import { parseJson } from '../../../src/service/varlink/json.ts';
import { attempt, ErrnoError } from '../../../src/sys/errno.ts';

const ours = (text: string): unknown => attempt(() => parseJson(Buffer.from(text), 100));
/** The values of JSON.parse, with the prototypes that ours have. */
const theirs = (text: string): unknown =>
  JSON.parse(text, (_, value) =>
    value && typeof value === 'object' && !Array.isArray(value)
      ? Object.defineProperties(Object.create(null), Object.getOwnPropertyDescriptors(value))
      : value,
  );

fc.assert(
  fc.property(fc.json({ maxDepth: 5 }), text => {
    t.strictSame(ours(text), theirs(text));
  }),
  { numRuns: 200 },
);
/** Texts that are nearly JSON: whatever JSON.parse refuses is refused. */
const alphabet = [...'{}[],:"\\u012e+-. \n', 'true', 'false', 'null', ...'ab'];
let refused = 0;
fc.assert(
  fc.property(fc.array(fc.constantFrom(...alphabet), { maxLength: 8 }), letters => {
    const text = letters.join('');
    const value = ours(text);
    if (value instanceof ErrnoError) refused++;
    const isRight = (() => {
      try {
        JSON.parse(text);
        return true;
      } catch {
        return false;
      }
    })();
    return value instanceof ErrnoError ? !isRight || value.message.includes('twice') : isRight;
  }),
  { numRuns: 5000 },
);
t.ok(refused > 1000, 'texts were refused');
t.end();
