/** A real image with verified objects: as root, as an ordinary user, and inside a user namespace. */
import { execFileSync, spawnSync } from 'node:child_process';
import { appendFileSync, chmodSync, chownSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import t from 'tap';
import { makeObjects, originalTree, realImage, regularFiles } from '../fixtures/images/real-tree.ts';
import { lowerdata, withMount } from '../fixtures/mounts/mounted.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse, withoutUserMounts, withoutUserNamespaces } from '../fixtures/skips.ts';

const NOBODY = 65534;
const skip = withoutFuse;

/** A shell script for other users: mounts $1 with the objects $2 on $3, compares with $4, runs the compiler, unmounts. */
const script = `
set -eu
node=$0 lowerdata=$1 image=$2 objects=$3 root=$4 original=$5
"$node" "$lowerdata" mount "$image" "$root" -o "basedir=$objects"
diff -r "$root/package" "$original" && echo same
"$node" "$root/package/bin/tsc" --version
"$node" "$lowerdata" umount "$root"
grep -c " $root " /proc/self/mounts || true
`;

t.test('the real tree', { skip, timeout: 300_000 }, async t => {
  await withScratchAsync(async scratch => {
    chmodSync(scratch, 0o755);
    const objects = join(scratch, 'objects');
    mkdirSync(objects);
    makeObjects(objects);
    const arguments_ = [lowerdata, realImage, objects, join(scratch, 'mnt'), originalTree];
    const expected = 'same\nVersion 5.9.2\n0\n';

    await t.test('as root: every file is the original, and the compiler runs from it', t =>
      withMount([realImage, '-o', `basedir=${objects}`], root => {
        const inMount = join(root, 'package');
        const names = regularFiles(originalTree).map(file => relative(originalTree, file));
        t.strictSame(
          regularFiles(inMount).map(file => relative(inMount, file)),
          names,
        );
        for (const name of names) {
          const isSame = readFileSync(join(inMount, name)).equals(readFileSync(join(originalTree, name)));
          if (!isSame) t.fail(name);
        }
        writeFileSync(join(scratch, 'wrong.ts'), 'const a: number = "x";');
        const tsc = spawnSync(process.execPath, [join(inMount, 'bin/tsc'), '--noEmit', join(scratch, 'wrong.ts')]);
        t.match(String(tsc.stdout), 'error TS2322');
      }),
    );

    await t.test('as an ordinary user, through fusermount3', { skip: withoutUserMounts }, async t => {
      mkdirSync(join(scratch, 'mnt'));
      chownSync(join(scratch, 'mnt'), NOBODY, NOBODY);
      const user = { uid: NOBODY, gid: NOBODY, cwd: '/', encoding: 'utf8' } as const;
      t.equal(execFileSync('sh', ['-c', script, process.execPath, ...arguments_].slice(0), user), expected);
    });

    await t.test('in a user namespace', { skip: withoutUserNamespaces }, async t => {
      mkdirSync(join(scratch, 'mnt'), { recursive: true });
      const shell = ['sh', '-c', script, process.execPath, ...arguments_];
      t.equal(execFileSync('unshare', ['-Urm', ...shell], { encoding: 'utf8' }), expected);
    });

    await t.test('an object that was changed is not read', t =>
      withMount([realImage, '-o', `basedir=${objects}`], root => {
        for (const object of regularFiles(objects)) appendFileSync(object, 'tampered');
        t.throws(() => readFileSync(join(root, 'package/lib/tsc.js')), { code: 'EIO' });
        t.equal(readFileSync(join(root, 'package/bin/tsc'), 'utf8').length, 45, 'the image’s own files are unharmed');
      }),
    );
  });
});
