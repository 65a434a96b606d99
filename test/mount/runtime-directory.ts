/** Proves src/mount/runtime-directory.ts, with directories and files that others have made. */
import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, closeSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { RuntimeDirectory } from '../../src/mount/runtime-directory.ts';
import { withScratch } from '../fixtures/scratch.ts';
import { withoutRoot } from '../fixtures/skips.ts';

const NOBODY = 65534;

for (const [rule, skip, prepare, isUsed] of [
  ['that is not there yet', false, () => {}, true],
  ['of this user alone', false, (path: string) => mkdirSync(path, { mode: 0o700 }), true],
  ['that others may list', false, (path: string) => mkdirSync(path, { mode: 0o755 }), true],
  [
    'that others may write to',
    false,
    (path: string) => chmodSync(mkdirSync(path, { recursive: true }) ?? '', 0o777),
    false,
  ],
  [
    'of another user',
    withoutRoot,
    (path: string) => chownSync(mkdirSync(path, { recursive: true }) ?? '', NOBODY, 0),
    false,
  ],
  ['behind a symlink', false, (path: string) => symlinkSync('.', path), false],
  ['that is a file', false, (path: string) => writeFileSync(path, ''), false],
  ['in one that others may write to', false, (path: string) => chmodSync(dirname(path), 0o777), false],
  ['in one that others may write to, but not rename', false, (path: string) => chmodSync(dirname(path), 0o1777), true],
  ['in one of another user', withoutRoot, (path: string) => chownSync(dirname(path), NOBODY, NOBODY), false],
] as const)
  t.test(`a directory ${rule} is ${isUsed ? '' : 'not '}used`, { skip }, async t =>
    withScratch(scratch => {
      const path = join(scratch, 'lowerdata');
      prepare(path);
      const directory = RuntimeDirectory.open(path, true);
      t.equal(directory?.path, isUsed ? path : undefined);
      directory?.close();
    }),
  );

t.test('a file is made anew, in the place of whatever has its name', async t =>
  withScratch(scratch => {
    const [precious, path] = [join(scratch, 'precious'), join(scratch, 'lowerdata')];
    writeFileSync(precious, 'data');
    mkdirSync(path);
    symlinkSync(precious, join(path, '1.json'));
    const directory = RuntimeDirectory.open(path, false) as RuntimeDirectory;
    const fd = directory.create('1.json');
    writeFileSync(fd, 'state');
    closeSync(fd);
    t.equal(directory.read('1.json'), 'state');
    t.equal(readFileSync(precious, 'utf8'), 'data', 'what a symlink led to stays as it is');
    directory.close();
  }),
);

for (const [rule, skip, make] of [
  ['a symlink to a device without an end', false, (path: string) => symlinkSync('/dev/zero', path)],
  ['a symlink to a file', false, (path: string) => symlinkSync('/etc/passwd', path)],
  ['a pipe that nobody writes to', false, (path: string) => execFileSync('mkfifo', [path])],
  ['a directory', false, (path: string) => mkdirSync(path)],
  ['nothing', false, () => {}],
  ['more than a megabyte', false, (path: string) => writeFileSync(path, Buffer.alloc(2 ** 20 + 1))],
  ['the file of another user', withoutRoot, (path: string) => writeFileSync(path, '{}')],
] as const)
  t.test(`${rule} is not read`, { skip }, async t =>
    withScratch(scratch => {
      make(join(scratch, '1.json'));
      if (rule.includes('another user')) chownSync(join(scratch, '1.json'), NOBODY, 0);
      const directory = RuntimeDirectory.open(scratch, false) as RuntimeDirectory;
      t.equal(directory.read('1.json'), undefined);
      directory.close();
    }),
  );
t.end();
