import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { linesOf, parseDump, stageDump } from '../../src/composefs/dumpfile.ts';
import { printImage } from '../../src/composefs/print.ts';
import { newInode, type TreeEntry, type TreeInode } from '../../src/composefs/tree.ts';
import { writeImage, writeStaged } from '../../src/composefs/write.ts';
import { openImage } from '../../src/erofs/image.ts';
import { EFBIG, EINVAL } from '../../src/sys/errno.ts';
import { S_IFDIR, S_IFREG } from '../../src/sys/stat.ts';
import { measureBytes } from '../../src/verity/digest.ts';
import { goldenDumps } from '../fixtures/images/golden-dumps.ts';
import { noProgram, run, sameAsKernel } from '../fixtures/mounts/kernel-mount.ts';
import { withScratch } from '../fixtures/scratch.ts';

const noFsck = noProgram('fsck.erofs');

/** Passes where fsck.erofs accepts an image. */
function fsckAccepts(t: Tap, rule: string, bytes: Uint8Array): void {
  if (noFsck) return void t.pass(`${rule}: fsck.erofs`, { skip: noFsck });
  withScratch(directory => {
    const path = join(directory, 'image');
    writeFileSync(path, bytes);
    t.doesNotThrow(() => run('fsck.erofs', path), `${rule}: fsck.erofs`);
  });
}
type Tap = Pick<typeof t, 'pass' | 'doesNotThrow'>;

t.test('an image is the one that mkcomposefs writes, byte for byte', async t => {
  for (const { name, text, images, bytes } of goldenDumps()) {
    for (const { minVersion, maxVersion, sha256, digest, sizeBytes } of images) {
      const image = writeImage(parseDump(linesOf([text])), { minVersion, maxVersion });
      const rule = `${name}, versions ${minVersion} to ${maxVersion}`;
      const staged = writeStaged(stageDump(linesOf([text]), false, { minVersion, maxVersion }));
      t.equal(Buffer.compare(image, staged), 0, `${rule}: the same without a tree`);
      t.equal(image.length, sizeBytes, `${rule}: size`);
      if (minVersion === 0 && bytes && Buffer.compare(image, bytes) !== 0)
        t.same([...printImage(image)], [...printImage(bytes)], `${rule}: listing`);
      t.equal(createHash('sha256').update(image).digest('hex'), sha256, `${rule}: SHA-256`);
      t.equal(Buffer.from(measureBytes(image)).toString('hex'), digest, `${rule}: fs-verity digest`);
      fsckAccepts(t, rule, image);
      sameAsKernel(t, rule, image);
    }
  }
});

const root = (fields = '', xattrs = ''): string => `/ 0 40755 2 ${fields || '0 0 0 0.0'} - - -${xattrs}`;
const file = (name: string, fields: string): string => `/${name} ${fields}`;
const content = (length: number): string =>
  file(`c${length}`, `${length} 100644 1 0 0 0 0.0 - ${'x'.repeat(length)} -`);
const link = (length: number): string => file(`l${length}`, `0 120777 1 0 0 0 0.0 ${'t'.repeat(length)} - -`);
const far = (size: number): string => file(`f${size}`, `${size} 100644 1 0 0 0 0.0 ab/cd - -`);
const named = (length: number, i: number): string =>
  file(`${i}${'n'.repeat(length)}`.slice(0, length), '0 100644 1 0 0 0 0.0 - - -');
const keys = (n: number, value: string): string =>
  Array.from({ length: n }, (_, i) => ` user.k${String(i).padStart(3, '0')}=${value}`).join('');

/** user::rwx group::r-x other::r-x. Source: linux/posix_acl_xattr.h. */
const acl =
  '\\x02\\x00\\x00\\x00\\x01\\x00\\x07\\x00\\xff\\xff\\xff\\xff\\x04\\x00\\x05\\x00\\xff\\xff\\xff\\xff\\x20\\x00\\x05\\x00\\xff\\xff\\xff\\xff';

/** Shapes at the edges of the layout, checked by other readers. */
for (const [rule, ...lines] of [
  ['a root alone', root()],
  [
    'contents of every size around half a block and a block',
    root(),
    ...[1, 2047, 2048, 2049, 4095, 4096, 4097, 5000].map(content),
  ],
  [
    'many contents, so that tails meet block ends',
    root(),
    ...Array.from({ length: 300 }, (_, i) => content(i * 7 + 1)),
  ],
  ['targets up to the longest', root(), ...[1, 63, 64, 4000, 4031, 4032, 4063, 4064, 4095].map(link)],
  ['many targets, so that they meet block ends', root(), ...Array.from({ length: 300 }, (_, i) => link(i * 13 + 1))],
  [
    'sizes around chunk sizes',
    root(),
    ...[1, 4096, 4097, 8192, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 43, 2 ** 43 + 1, 2 ** 44].map(far),
  ],
  ['a chunk map of half a block', root(), far(512 * 2 ** 43)],
  [
    'owners and links around 16 bits',
    root('65535 65536 0 0.0'),
    file('a', '0 100644 65535 65535 65535 0 0.0 - - -'),
    file('b', '0 100644 65536 0 0 0 0.0 - - -'),
  ],
  [
    'times before 1970 and far after',
    root('0 0 0 -1.5'),
    file('a', '0 100644 1 0 0 0 -9.999999999 - - -'),
    file('b', '0 100644 1 0 0 0 99999999999.1 - - -'),
  ],
  ['directories of many blocks', root(), ...Array.from({ length: 900 }, (_, i) => named(255 - (i % 200), i + 1000))],
  [
    'directories around half a block',
    root(),
    ...[6, 7, 8].flatMap(n => [
      `/d${n} 0 40755 2 0 0 0 0.0 - - -`,
      ...Array.from({ length: n }, (_, i) => named(255, i).replace('/', `/d${n}/`)),
    ]),
  ],
  ['a whiteout in place of a stub', root(), file('a0', '0 20000 1 0 0 0 0.0 - - -')],
  ['names that a stub would have', root(), file('00', '3 100644 1 0 0 0 0.0 - abc -'), '/ff 0 40755 2 0 0 0 0.0 - - -'],
  [
    'more shared xattrs than an inode can name',
    root('', keys(200, 'v')),
    `${file('a', '0 100644 1 0 0 0 0.0 - - -')}${keys(200, 'v')}`,
  ],
  [
    'values of a name, shared and not',
    root('', ' user.a=1'),
    ...[0, 1, 2, 3].map(i => `${file(`x${i}`, '0 100644 1 0 0 0 0.0 - - -')} user.a=${i} user.b=${i % 2}`),
  ],
  ['names of every prefix', root('', ` user.a=1 trusted.b=2 security.c=3 system.posix_acl_access=${acl} lustre.d=4`)],
  [
    'xattrs that overlay mounts would take for their own',
    root('', ' trusted.overlay.opaque=y trusted.overlay.overlay.opaque=y user.overlay.opaque=y'),
  ],
  ['a deep tree', root(), ...Array.from({ length: 200 }, (_, i) => `${'/d'.repeat(i + 1)} 0 40755 2 0 0 0 0.0 - - -`)],
] as const) {
  const image = writeImage(parseDump(lines));
  fsckAccepts(t, rule, image);
  sameAsKernel(t, rule, image);
}

const plain = [root(), file('a', '0 20000 1 0 0 1 0.0 - - -')];
const whiteout = [root(), file('a', '0 20000 1 0 0 0 0.0 - - -')];
for (const [rule, lines, minVersion, maxVersion, want] of [
  ['no whiteout: the lower version', plain, 0, 1, 0],
  ['no whiteout: the version asked for', plain, 1, 1, 1],
  ['a whiteout: the higher version', whiteout, 0, 1, 1],
  ['a whiteout, while version 1 is not allowed', whiteout, 0, 0, 0],
  ['a whiteout: the version asked for', whiteout, 1, 1, 1],
] as const)
  t.equal(openImage(writeImage(parseDump(lines), { minVersion, maxVersion })).composefs?.composefsVersion, want, rule);

function directory(entries: [string, TreeInode, boolean?][], mode = S_IFDIR | 0o755): TreeInode {
  const named = entries.map(([name, inode, link = false]): [string, TreeEntry] => [name, { inode, link }]);
  return { ...newInode(mode), entries: new Map(named) };
}
const empty = newInode(S_IFREG | 0o644);
const huge = { ...newInode(S_IFREG | 0o644), sizeBytes: 2 ** 54 };
for (const [rule, tree, errno, message] of [
  ['no file type', directory([['a', newInode(0o644)]]), EINVAL, 'mode 644 has no file type'],
  [
    'two first names',
    directory([
      ['a', empty],
      ['b', empty],
    ]),
    EINVAL,
    'an inode has two first names',
  ],
  ['a link out of the tree', directory([['a', empty, true]]), EINVAL, 'a hard link leads out of the tree'],
  [
    'names in what is no directory',
    directory([
      ['a', directory([], S_IFREG)],
      ['b', directory([['c', empty]], S_IFREG)],
    ]),
    EINVAL,
    'only a directory can have entries',
  ],
  ['a file past 2^53 bytes', directory([['a', huge]]), EFBIG, `a file of ${2 ** 54} bytes; ${2 ** 53} are allowed`],
] as const)
  t.throws(() => writeImage(tree), { errno, message }, `refused: ${rule}`);
