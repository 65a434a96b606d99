/** Proves src/cli/root-owned.ts. */
import { chmodSync, chownSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { writableByOthers } from '../../src/cli/root-owned.ts';
import { withScratch } from '../fixtures/scratch.ts';
import { withoutRoot } from '../fixtures/skips.ts';

for (const [rule, change, want] of [
  ['what root alone can write to', () => {}, undefined],
  ['a directory above of a user', (at: string) => chownSync(`${at}/lib`, 1000, 0), '/lib belongs to user 1000'],
  [
    'a file of a user',
    (at: string) => chownSync(`${at}/lib/dir/program`, 1000, 0),
    '/lib/dir/program belongs to user 1000',
  ],
  [
    'another file in it',
    (at: string) => chownSync(`${at}/lib/dir/sub/other`, 1000, 0),
    '/lib/dir/sub/other belongs to user 1000',
  ],
  ['one for all', (at: string) => chmodSync(`${at}/lib/dir`, 0o777), '/lib/dir is writable by everyone'],
  ['one for a group', (at: string) => chmodSync(`${at}/lib/dir`, 0o775), '/lib/dir is writable by group 0'],
  ['one for all, as /tmp', (at: string) => chmodSync(`${at}/lib`, 0o1777), undefined],
] as const)
  t.test(rule, { skip: withoutRoot }, async t =>
    withScratch(directory => {
      mkdirSync(join(directory, 'lib/dir/sub'), { recursive: true });
      for (const name of ['program', 'sub/other']) writeFileSync(join(directory, 'lib/dir', name), '');
      symlinkSync('lib/dir', join(directory, 'link'));
      change(directory);
      t.equal(writableByOthers(join(directory, 'link')), want && `${directory}${want}`);
    }),
  );
t.end();
