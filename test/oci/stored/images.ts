/** Which names lead to an image of a repository, and what is said of all others. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { findImage } from '../../../src/oci/stored/images.ts';
import { ErrnoError } from '../../../src/sys/errno.ts';
import { withScratchAsync } from '../../fixtures/scratch.ts';

const A = 'aa'.repeat(32);
const B = 'bb'.repeat(64);
const GONE = 'cc'.repeat(32);
const WRONG = 'dd'.repeat(32);
const BY_HAND = 'ee'.repeat(32);
const META = JSON.stringify({ version: 1, algorithm: 'fsverity-sha256-12' });

const objectOf = (digest: string): string => `objects/${digest.slice(0, 2)}/${digest.slice(2)}`;

/** Symlinks and files of a repository, as composefs-rs makes them and as it does not. */
const LINKS: readonly (readonly [path: string, target: string])[] = [
  [`images/${A}`, `../${objectOf(A)}`],
  [`images/${B}`, `../${objectOf(B)}`],
  [`images/${GONE}`, `../${objectOf(GONE)}`],
  [`images/${WRONG}`, `../${objectOf(A)}`],
  ['images/refs/a', `../${A}`],
  ['images/refs/deep/er/b', `../../../${B}`],
  ['images/refs/with:colon,comma', `../${A}`],
  ['images/refs/\xff\n', `../${A}`],
  [`images/refs/${B}`, `../${A}`],
  ['images/refs/gone', `../${GONE}`],
  ['images/refs/wrong', `../${WRONG}`],
  ['images/refs/none', `../${'ff'.repeat(32)}`],
  ['images/refs/absolute', '/etc/hostname'],
  ['images/refs/out', '../../../etc/hostname'],
  ['images/refs/object', `../../${objectOf(A)}`],
  ['images/refs/chain', 'a'],
  ['images/refs/up', 'deep/..'],
];

function fill(store: string): void {
  const put = (path: string, data: string): void => {
    mkdirSync(join(store, dirname(path)), { recursive: true });
    writeFileSync(join(store, path), data);
  };
  put('meta.json', META);
  for (const digest of [A, B, WRONG]) put(objectOf(digest), 'an image');
  mkdirSync(join(store, objectOf(BY_HAND)), { recursive: true });
  for (const [path, target] of LINKS) {
    mkdirSync(join(store, dirname(path)), { recursive: true });
    symlinkSync(target, Buffer.from(join(store, path), 'latin1'));
  }
  put('images/refs/file', 'no symlink');
  symlinkSync(`../${objectOf(BY_HAND)}`, join(store, 'images', BY_HAND));
  symlinkSync('deep', join(store, 'images/refs/linked'));
}

/** The digest of an image, or the message of what is thrown, without the path of the store. */
async function found(store: string, name: string): Promise<string> {
  try {
    return (await findImage(store, name)).digest;
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error;
    return `${error.name} ${error.message.replaceAll(store, 'S')}`;
  }
}

const NAMES = 'a, absolute, ';

for (const [rule, name, want] of [
  ['a name', 'a', A],
  ['a name in directories', 'deep/er/b', B],
  ['colons and commas', 'with:colon,comma', A],
  ['bytes that are no text', '\xff\n', A],
  ['a digest of SHA-256', A, A],
  ['a name comes before a digest', B, A],
  ['an image that is gone', 'gone', `ENOENT S/images/${GONE}: leads to ${objectOf(GONE)}, which does not exist`],
  ['its digest', GONE, `ENOENT S/images/${GONE}: leads to ${objectOf(GONE)}, which does not exist`],
  [
    'an image in the place of another',
    'wrong',
    `EUCLEAN S/images/${WRONG}: leads to ${objectOf(A)}, not to ${objectOf(WRONG)}`,
  ],
  ['an image that is a directory', BY_HAND, `EUCLEAN S/${objectOf(BY_HAND)}: not a file`],
  [
    'a digest that no image has',
    'none',
    `ENOENT S/images/refs/none: leads to images/${'ff'.repeat(32)}, which does not exist`,
  ],
  ['an absolute path', 'absolute', 'EXDEV S/images/refs/absolute: leads to /etc/hostname, out of the repository'],
  ['a path out', 'out', 'EXDEV S/images/refs/out: leads to ../../../etc/hostname, out of the repository'],
  ['an object', 'object', `EXDEV S/images/refs/object: leads to ${objectOf(A)}, which is no image of the repository`],
  ['another name', 'chain', 'EXDEV S/images/refs/chain: leads to images/refs/a, which is no image of the repository'],
  ['the directory of names', 'up', 'EXDEV S/images/refs/up: leads to images/refs, which is no image of the repository'],
  ['a file', 'file', 'EUCLEAN S/images/refs/file: not a symlink'],
  ['a name through a symlink', 'linked/er/b', 'ELOOP S/images/refs/linked/er/b: Too many levels of symbolic links'],
  ['a name that is not there', 'x', `ENOENT S: no image has the name x; the names are: ${NAMES}`],
  ['a directory of names', 'deep', `ENOENT S: no image has the name deep; the names are: ${NAMES}`],
  ['no name', '', `ENOENT S: no image has the name ; the names are: ${NAMES}`],
  ['a path up', `../${A}`, `ENOENT S: no image has the name ../${A}; the names are: ${NAMES}`],
  ['a path with an empty part', 'deep//er/b', `ENOENT S: no image has the name deep//er/b; the names are: ${NAMES}`],
  ['capital digits', A.toUpperCase(), `ENOENT S: no image has the name ${A.toUpperCase()}; the names are: ${NAMES}`],
] as const)
  t.test(rule, t =>
    withScratchAsync(async home => {
      const store = join(home, 'store');
      fill(store);
      const got = await found(store, name);
      if (want.endsWith(NAMES)) t.equal(got.slice(0, want.length), want);
      else t.equal(got, want);
    }),
  );

t.test('places that are no repository', t =>
  withScratchAsync(async home => {
    const store = join(home, 'store');
    t.equal(await found(store, 'a'), 'ENOENT S: No such file or directory');
    mkdirSync(store);
    t.equal(await found(store, 'a'), 'EINVAL S: no repository of composefs: it has no meta.json');
    const put = (meta: object): void => writeFileSync(join(store, 'meta.json'), JSON.stringify(meta));
    put({ version: 2, algorithm: 'fsverity-sha256-12' });
    t.match(await found(store, 'a'), /^EOPNOTSUPP S\/meta.json: version 2 /);
    put({ version: 1, algorithm: 'fsverity-sha256-12' });
    t.equal(await found(store, 'a'), 'ENOENT S: no image has the name a; the names are: none');
    mkdirSync(join(store, 'images/refs'), { recursive: true });
    for (let i = 100; i < 125; i++) symlinkSync(`../${A}`, join(store, `images/refs/${i}`));
    t.match(await found(store, 'a'), /: 100, 101, .*, 119 and 5 more$/, 'many names');
    rmSync(join(store, 'meta.json'));
    execFileSync('mkfifo', [join(store, 'meta.json')]);
    t.equal(await found(store, 'a'), 'EINVAL S/meta.json: not a regular file', 'nobody waits for who writes to it');
    writeFileSync(join(home, 'file'), '');
    t.equal(await found(join(home, 'file'), 'a'), 'ENOTDIR S: Not a directory');
  }),
);
t.end();
