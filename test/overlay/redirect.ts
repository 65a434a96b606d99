import fc from 'fast-check';
import t from 'tap';
import { isAbsolute, isDataRedirect, parseRedirect } from '../../src/overlay/redirect.ts';
import { bufferOf } from '../../src/sys/bytes.ts';

for (const [rule, value, want] of [
  ['R2: a name', 'a', 'a'],
  ['R2: a path', '/a', '/a'],
  ['R2: a longer path', '/a/b/c', '/a/b/c'],
  ['R2: any byte but NUL and slash', '\x01\xff \n', '\x01\xff \n'],
  ['R2: the value ends at a NUL', 'a\0/b/', 'a'],
  ['R2: a path ends at a NUL', '/a\0//', '/a'],
  ['R4: a dot is left to the walk', '.', '.'],
  ['R4: so are two', '..', '..'],
  ['R4: and those of a path', '/../a/.', '/../a/.'],
  ['R4: NUL first: an empty name', '\0', ''],
  ['R3: no bytes', '', undefined],
  ['R3: a slash in a name', 'a/b', undefined],
  ['R3: a slash after a name', 'a/', undefined],
  ['R3: the root', '/', undefined],
  ['R3: the root, then NUL', '/\0a', undefined],
  ['R3: a trailing slash', '/a/', undefined],
  ['R3: an empty component', '/a//b', undefined],
  ['P-D1: two slashes first', '//a/b', '//a/b'],
  ['P-D1: the value ends at a NUL as any other', '//a\0/', '//a'],
  ['P-D6: dots are not special', '//..', '//..'],
  ['P-D1: two slashes alone', '//', undefined],
  ['P-D1: three slashes', '///', undefined],
  ['P-D1: three slashes and a name', '///a', undefined],
  ['P-D1: four slashes', '////a', undefined],
  ['P-D1: an empty component later', '//a//b', undefined],
  ['P-D1: a trailing slash', '//a/', undefined],
] as const) {
  t.equal(parseRedirect(bufferOf(value)), want, rule);
}

for (const [redirect, absolute, dataOnly] of [
  ['a', false, false],
  ['', false, false],
  ['/a', true, false],
  ['//a', true, true],
] as const) {
  t.equal(isAbsolute(redirect), absolute, `absolute: ${redirect}`);
  t.equal(isDataRedirect(redirect), dataOnly, `data redirect: ${redirect}`);
}

/** R2, R3 and P-D1 as a language: of the bytes before the first NUL, one of these must be all. */
const language = /^(?:[^/]*|\/(?:\/?[^/]+)(?:\/[^/]+)*)$/s;
// mostly slashes, dots and NULs, so that the corners come up
const letter = fc.constantFrom('/', '/', '/', '.', 'a', '\0', '\n', '\xff');
const values = fc.oneof(
  fc.array(letter, { maxLength: 12 }).map(letters => bufferOf(letters.join(''))),
  fc.uint8Array({ maxLength: 40 }),
);
fc.assert(
  fc.property(values, value => {
    const text = Buffer.from(value).toString('latin1');
    const before = text.split('\0')[0] as string;
    const want = text.length > 0 && language.test(before) ? before : undefined;
    return parseRedirect(value) === want;
  }),
  { numRuns: 20_000 },
);
t.pass('R3: exactly the language of redirects is accepted');
t.end();
