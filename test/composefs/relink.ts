/** What becomes of redirects and origins: of each form, and of whole images. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { parseDump } from '../../src/composefs/dumpfile.ts';
import { readStaged } from '../../src/composefs/read-staged.ts';
import {
  type ExternalFile,
  externalFiles,
  type Relinked,
  type RelinkTarget,
  relink,
} from '../../src/composefs/relink.ts';
import { stageTree } from '../../src/composefs/stage.ts';
import type { Row, StagedInodes } from '../../src/composefs/staged.ts';
import { pathOf } from '../../src/composefs/tree.ts';
import { writeStaged } from '../../src/composefs/write.ts';
import { openImage } from '../../src/erofs/image.ts';
import { fieldsOf } from '../fixtures/images/fields.ts';
import { goldenImages } from '../fixtures/images/golden-images.ts';
import { differences } from '../fixtures/tree.ts';

const digest = 'ab'.repeat(32);
const bytesOfDigest = '\xab'.repeat(32);
const objectName = `ab/${'ab'.repeat(31)}`;
const root = '/ 4096 40755 2 0 0 0 0.0 - - -';
const metacopy = `\0\x24\0\x01${bytesOfDigest}`;
const long = `\0\x44\0\x02${bytesOfDigest}${bytesOfDigest}`;
const withFlags = metacopy.replace('\0\x01', '\xff\x01');
const never = (): never => {
  throw new Error('no origin is asked for');
};

/** An image with one file, which has just these xattrs. */
function imageWith(xattrs: Record<string, string>): [StagedInodes, Row] {
  const inodes = stageTree(parseDump([root, '/f 9 100644 1 0 0 0 0.0 - - -']));
  const file = inodes.sizeBytes.indexOf(9);
  const named = Object.entries(xattrs).map(([name, value]) => [`trusted.overlay.${name}`, value] as const);
  inodes.setXattrs(file, new Map(named));
  return [inodes, file];
}

/** What the file has afterwards, and whether that counts as changed. */
function after(xattrs: Record<string, string>, target: RelinkTarget, originOf: () => string = never): unknown[] {
  const [inodes, file] = imageWith(xattrs);
  const { changed, refused } = relink(inodes, externalFiles(inodes), target, originOf);
  const refusal = refused.map(([{ place }, { code }]) => `${pathOf(place)}: ${code}`);
  return [
    ...refusal,
    Object.fromEntries([...inodes.xattrsOf(file)].map(([name, value]) => [name.slice(16), value])),
    changed,
  ];
}

for (const [rule, redirect, absolute, dataOnly] of [
  ['a path', '/a/b', '/a/b', '//a/b'],
  ['a data redirect', '//a/b', '/a/b', '//a/b'],
  ['bytes after a NUL', '/a\0//b', '/a\0//b', '//a\0//b'],
  ['any bytes', '/\xff\n', '/\xff\n', '//\xff\n'],
  ['a name is no path', 'a', 'a', 'a'],
  ['the root is no file', '/', '/', '/'],
  ['three slashes are no redirect', '///a', '///a', '///a'],
  ['what is invalid stays so', '/a//b/', '/a//b/', '//a//b/'],
] as const) {
  t.same(
    after({ metacopy, redirect }, 'absolute'),
    [{ metacopy, redirect: absolute }, redirect === absolute ? 0 : 1],
    `absolute: ${rule}`,
  );
  t.same(
    after({ metacopy, redirect }, 'data-only'),
    [{ metacopy, redirect: dataOnly }, redirect === dataOnly ? 0 : 1],
    `data-only: ${rule}`,
  );
}

const origin = '\0\xfborigin';
const empty = { metacopy, origin, redirect: '' };
for (const [rule, target, before, want, changed] of [
  ['from origin to the name of the digest', 'absolute', empty, { metacopy, redirect: `/${objectName}` }, 1],
  ['with two slashes', 'data-only', empty, { metacopy, redirect: `//${objectName}` }, 1],
  [
    'an empty redirect without origin, too',
    'absolute',
    { metacopy, redirect: '' },
    { metacopy, redirect: `/${objectName}` },
    1,
  ],
  [
    'an origin beside a path stays',
    'data-only',
    { metacopy, origin, redirect: '/a' },
    { metacopy, origin, redirect: '//a' },
    1,
  ],
  ['no redirect stays none', 'data-only', { metacopy }, { metacopy }, 0],
  ['what is no metacopy is not looked at', 'data-only', { redirect: '/a' }, { redirect: '/a' }, 0],
  ['a path to its origin', 'origin', { metacopy, redirect: '/a' }, { ...empty, origin: 'new' }, 1],
  ['a file without redirect to its origin', 'origin', { metacopy }, { ...empty, origin: 'new' }, 1],
  ['another origin', 'origin', empty, { ...empty, origin: 'new' }, 1],
  [
    'with flags',
    'origin',
    { metacopy: withFlags, redirect: '/a' },
    { ...empty, metacopy: withFlags, origin: 'new' },
    1,
  ],
  [
    'a digest of SHA-512 to its origin',
    'origin',
    { metacopy: long, redirect: '/a' },
    { ...empty, metacopy: long, origin: 'new' },
    1,
  ],
  [
    'from origin to the name of such a digest',
    'absolute',
    { ...empty, metacopy: long },
    { metacopy: long, redirect: `/${objectName}${digest}` },
    1,
  ],
  ['the same origin', 'origin', { ...empty, origin: 'new' }, { ...empty, origin: 'new' }, 0],
] as const)
  t.same(
    after(before, target, () => 'new'),
    [want, changed],
    rule,
  );

for (const [rule, target, before] of [
  ['to origin without a digest', 'origin', { metacopy: '', redirect: '/a' }],
  ['from origin without a digest', 'absolute', { metacopy: '', redirect: '' }],
  ['with the algorithm of the other length', 'origin', { metacopy: `\0\x24\0\x02${bytesOfDigest}`, redirect: '/a' }],
  ['with another version', 'origin', { metacopy: `\x01\x24\0\x01${bytesOfDigest}`, redirect: '/a' }],
  ['with a length that is not its own', 'origin', { metacopy: `\0\x20\0\x01${bytesOfDigest}`, redirect: '/a' }],
] as const)
  t.same(after(before, target), ['/f: ENOVERITY', before, 0], `refused: ${rule}`);

t.test('the files of an image', async t => {
  const inodes = stageTree(
    parseDump([
      root,
      `/b 9 100644 3 0 0 0 0.0 ${objectName} - ${digest}`,
      '/a 9 @100644 1 0 0 0 0.0 /b - -',
      '/d 0 40755 2 0 0 0 0.0 - - -',
      '/d/b 9 @100644 1 0 0 0 0.0 /b - -',
      '/d/x 8 100644 1 0 0 0 0.0 x - -',
      '/inline 2 100644 1 0 0 0 0.0 - hi -',
      '/empty 0 100644 1 0 0 0 0.0 - - -',
      '/link 1 120777 1 0 0 0 0.0 b - -',
      '/d-x 7 100644 1 0 0 0 0.0 - - -',
    ]),
  );
  const files = [...externalFiles(inodes)].map(({ row, place, ...file }) => ({
    path: pathOf(place),
    ...file,
  }));
  t.same(files, [
    { path: '/a', sizeBytes: 9, redirect: `/${objectName}`, digest },
    { path: '/d/x', sizeBytes: 8, redirect: '/x', digest: undefined },
    { path: '/d-x', sizeBytes: 7, redirect: undefined, digest: undefined },
  ]);
  const refusal = { code: 'ENOENT', message: 'gone' };
  const { changed, refused } = relink(inodes, externalFiles(inodes), 'origin', () => refusal);
  t.same(
    [changed, refused.map(([{ place }, { code }]) => `${pathOf(place)} ${code}`)],
    [0, ['/a ENOENT', '/d/x ENOVERITY', '/d-x ENOVERITY']],
    'all that are refused are told',
  );
});

/** An image converted. */
function converted(
  bytes: Uint8Array,
  target: RelinkTarget,
  originOf: (file: ExternalFile) => string = never,
): [Uint8Array, Relinked] {
  const inodes = readStaged(openImage(bytes));
  const result = relink(inodes, externalFiles(inodes), target, originOf);
  return [writeStaged(inodes), result];
}
const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

for (const [name, path] of goldenImages()) {
  const golden = readFileSync(path);
  const plain = fieldsOf(golden, 'without leads');
  const [unchanged, { changed: none }] = converted(golden, 'absolute');
  t.ok(none === 0 && same(unchanged, golden), `${name}: nothing to change`);
  const [dataOnly, { changed }] = converted(golden, 'data-only');
  t.ok(changed > 0 && !same(dataOnly, golden), `${name}: ${changed} redirects change`);
  t.same(differences(fieldsOf(dataOnly, 'without leads'), plain), [], `${name}: and nothing else`);
  t.ok(same(converted(dataOnly, 'absolute')[0], golden), `${name}: it comes back`);

  const [byOrigin, { refused }] = converted(golden, 'origin', ({ digest }) => `\0\xfb${digest}`);
  t.same(differences(fieldsOf(byOrigin, 'without leads'), plain), [], `${name}: to origin nothing else changes`);
  t.ok(same(converted(byOrigin, 'origin', ({ digest }) => `\0\xfb${digest}`)[0], byOrigin), `${name}: once is enough`);
  if (refused.length === 0) t.ok(same(converted(byOrigin, 'absolute')[0], golden), `${name}: back from origin`);
  t.ok(
    same(converted(byOrigin, 'data-only')[0], converted(converted(byOrigin, 'absolute')[0], 'data-only')[0]),
    `${name}: either way`,
  );
}
