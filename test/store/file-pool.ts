import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { digestFiles, type PoolFile } from '../../src/store/file-pool.ts';
import { openSource } from '../../src/store/source.ts';
import { must } from '../../src/sys/errno.ts';
import { native } from '../../src/sys/native.ts';
import { AT_FDCWD, statx, statxVersion } from '../../src/sys/statx.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';

/** By size, of files of zeros. Source: fsverity digest --compact. */
const digests = [
  [1, 'b803429503d95915829b29fdbc8bbad142f3abfd11b1cadf5526582e685c0551'],
  [4097, '093756e4ea9683329106d4a16982682ed182c14bf076463a9e7f97305cbac743'],
  [20_000_000, '25b69ce223e82a389caf26fdad440bed43e1bd571df7d85d980c5c4125930574'],
  [30_000_001, '5d77fe281866b917578ff051b712a2ebecd260b50938a3558ea284082d032764'],
] as const;

/** Of one byte of zero. Source: fsverity digest --compact --hash-alg=sha512. */
const SHA512_OF_A_ZERO =
  '9fcf5172b085b1c8f9365eecb37a1869e193a4705654a5829f11939cd01d5c0fd97276be8cd9d49f76cfc8dcfeb80f8128e3548a1de50b56912b9e3fc7bde27b';

/** What a scan would give for a file of a directory. */
function scanned(directory: string): (name: string, sizeBytes: number) => PoolFile {
  const { tree, fd } = openSource(directory);
  native.close(fd);
  return (path, sizeBytes) => {
    must(statx(AT_FDCWD, join(directory, path)), path);
    return { tree, path, version: statxVersion(), inode: { sizeBytes, digest: undefined } };
  };
}

t.test('digests of files', async t =>
  withScratchAsync(async directory => {
    const pending = scanned(directory);
    const files = (): PoolFile[] =>
      digests.map(([sizeBytes]) => {
        const path = join(directory, String(sizeBytes));
        writeFileSync(path, '');
        truncateSync(path, sizeBytes);
        return pending(String(sizeBytes), sizeBytes);
      });
    const wanted = digests.map(([, digest]) => digest);
    const total = digests.reduce((sum, [sizeBytes]) => sum + sizeBytes, 0);
    for (const threads of [1, 2, 5]) {
      const list = files();
      let last: unknown;
      await digestFiles(list, { threads, progress: (...done) => (last = done) });
      t.same(
        list.map(({ inode }) => inode.digest),
        wanted,
        `in ${threads} threads`,
      );
      t.same(last, [digests.length, total], `in ${threads} threads: all is counted`);
      for (const [rule, file, message] of [
        ['a missing file', { ...pending('1', 9), path: 'none' }, /none: No such file or directory/],
        ['a file that is shorter', pending('1', 9), /1: the data ends at 1 of 9 bytes/],
        ['a file that was changed', { ...pending('1', 1), version: pending('4097', 1).version }, /1: changed/],
      ] as const) {
        const all = [...list.slice(0, 3), file];
        await t.rejects(digestFiles(all, { threads }), { message }, `in ${threads} threads: ${rule}`);
      }
    }
    const [file] = files() as [PoolFile];
    await digestFiles([file], { threads: 1, algorithm: 'sha512' });
    t.equal(file.inode.digest, SHA512_OF_A_ZERO, 'SHA-512 where that is asked for');
    await t.resolves(digestFiles([], { threads: 4 }), 'no files');
  }),
);
