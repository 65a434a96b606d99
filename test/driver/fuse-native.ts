/** Proves src/driver/fuse-native.ts through mounts: what its interface can express is as in the kernel, the rest is listed. */

import { spawnSync } from 'node:child_process';
import { linkSync, mkdirSync, readdirSync, readFileSync, statfsSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { type Mount, mountAt, readMounts } from '../../src/fuse/mountinfo.ts';
import { readState } from '../../src/mount/state.ts';
import { byteStringFromText } from '../../src/sys/bytes.ts';
import { EOPNOTSUPP, ERANGE } from '../../src/sys/errno.ts';
import { native } from '../../src/sys/native.ts';
import { runOracle } from '../fixtures/corpus.ts';
import { noProgram } from '../fixtures/mounts/kernel-mount.ts';
import { lowerdata } from '../fixtures/mounts/mounted.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse } from '../fixtures/skips.ts';
import { setXattrs } from '../fixtures/xattrs.ts';

const withoutFuseNative = ((): string | false => {
  try {
    createRequire(import.meta.url)('fuse-native');
    return false;
  } catch (error) {
    return `fuse-native does not load: ${(error as Error).message.split('\n')[0]}`;
  }
})();

const MS_REMOUNT = 32;
const MNT_DETACH = 2;

const TIMES = 'times are milliseconds, and nothing is before 1970';
const NAMES = 'names and targets that are not UTF-8 cannot be passed on';
const SIZES = 'the kernel reads as many bytes as stat says, not as many as the data has';

/** The cases of the corpus that fail, and a pattern that every difference matches: more differences, or fewer, are news. */
const LIMITS: readonly (readonly [name: string, difference: RegExp, reason: string])[] = [
  ['erofs.json:composefs', /mtime/, TIMES],
  ['merge.json:attributes-of-the-top-dir', /mtime/, TIMES],
  ['metacopy.json:same-name', /mtime/, TIMES],
  ['merge.json:names', /^(b-)?(%FF%FE|%EF%BF%BD%EF%BF%BD)-not-utf8/, NAMES],
  ['redirect-dir.json:odd-values', /^(%FF|%EF%BF%BD|bytes\/bytes\/same_ino_as)/, NAMES],
  ['special-files.json:symlinks', /mtime|^bytes\/(readlink_errno|target)/, `${NAMES}; ${TIMES}`],
  ['hardlinks-and-inodes.json:hardlinked-metacopy-without-redirect', /"cat".* got \["data "\]/, SIZES],
  ['hardlinks-and-inodes.json:hardlinked-metacopy-without-redirect-2', /"cat".* got \["data "\]/, SIZES],
  ['metacopy.json:sizes-data-only', /^(short|zero)\/content/, SIZES],
  ['metacopy.json:sizes', /./, `${SIZES}; the probe maps the file of size 0, and dies of SIGBUS`],
  [
    'xattr-escape.json:posix-acl',
    /missing, expected {"system.posix_acl_access"/,
    'ACLs do not count, so none is shown',
  ],
  ['xattr-escape.json:nobody', /\/nobody\/xattrs: .* got \[.*"trusted\./, 'trusted.* names are listed for every user'],
];

const command = (...args: string[]) => spawnSync(process.execPath, [lowerdata, ...args], { encoding: 'utf8' });
const mount = (stack: string, root: string, ...options: string[]) =>
  command('mount', '--transport', 'fuse-native', ...options, stack, root);
const isAlive = (pid: number): boolean => readdirSync('/proc').includes(String(pid));

/** Calls `use` with a mount of two layers, and takes it away if it is still there. */
async function withLayers(use: (root: string, layers: string) => void | Promise<void>): Promise<void> {
  await withScratchAsync(async layers => {
    for (const name of ['A', 'B', 'root']) mkdirSync(join(layers, name));
    writeFileSync(join(layers, 'A', 'file'), 'data\n');
    linkSync(join(layers, 'A', 'file'), join(layers, 'A', 'link'));
    setXattrs([join(layers, 'A', 'file'), 'user.value', 'x'.repeat(300)]);
    const root = join(layers, 'root');
    const { status, stderr } = mount(`${layers}/A:${layers}/B`, root);
    if (status !== 0) throw new Error(stderr);
    try {
      await use(root, layers);
    } finally {
      if (mountAt(readMounts(), root)) native.umount(byteStringFromText(root), MNT_DETACH);
    }
  });
}

t.setTimeout(600_000);
t.test('fuse-native', { skip: withoutFuse || withoutFuseNative }, async t => {
  await t.test('the conformance corpus', async t => {
    const template = `${lowerdata} mount --transport fuse-native -o allow_other,semantics=kernel,{stack} overlay {mnt}`;
    const { failed, passed, output } = runOracle('oracle.py', '--check', template, '-q');
    const limits = LIMITS.map(([name]) => name).filter(
      name => !name.startsWith('erofs.json') || !noProgram('mkfs.erofs'),
    );
    t.strictSame([...failed.keys()].sort(), limits.sort(), 'the listed cases fail, and no others');
    if (failed.size !== limits.length) t.comment(output);
    t.ok(passed >= 195, `${passed} cases passed`);
    for (const [name, difference, reason] of LIMITS.filter(([name]) => limits.includes(name))) {
      const others = failed.get(name)?.filter(line => !difference.test(line));
      t.strictSame(others, [], `${name}: ${reason}`);
    }
  });

  for (const [rule, end] of [
    ['ends with umount(2)', (root: string) => native.umount(byteStringFromText(root), 0)],
    ['ends with `lowerdata umount`', (root: string) => command('umount', root)],
    ['ends with SIGTERM', (_: string, pid: number) => process.kill(pid, 'SIGTERM')],
    ['does not outlive a killed daemon', (_: string, pid: number) => process.kill(pid, 'SIGKILL')],
  ] as const) {
    await t.test(`a mount ${rule}`, async t => {
      await withLayers(async root => {
        const found = mountAt(readMounts(), root);
        t.equal(found?.type, 'fuse.lowerdata', 'its type');
        const { pid } = readState(found as Mount) as { pid: number };
        end(root, pid);
        for (let tries = 100; tries > 0 && (mountAt(readMounts(), root) || isAlive(pid)); tries--) await sleep(50);
        t.equal(mountAt(readMounts(), root), undefined, 'the mount is gone');
        t.notOk(isAlive(pid), 'so is its process');
      });
    });
  }

  await t.test('what a program sees', async t => {
    await withLayers((root, layers) => {
      const file = join(root, 'file');
      const getxattr = (name: string, bytes: number) =>
        native.lgetxattr(byteStringFromText(file), name, new Uint8Array(bytes));
      t.equal(readFileSync(file, 'utf8'), 'data\n', 'a file');
      t.strictSame(readdirSync(root).sort(), ['file', 'link'], 'a listing');
      t.equal(statSync(file).ino, statSync(join(layers, 'A', 'file')).ino, 'the inode number of the layer');
      t.equal(statSync(file).ino, statSync(join(root, 'link')).ino, 'which hard links share');
      t.equal(statfsSync(root).blocks, statfsSync(layers).blocks, 'statfs is that of the top layer');
      t.equal(getxattr('user.value', 0), 300, 'the size of an xattr');
      t.equal(getxattr('user.value', 299), -ERANGE, 'a value that the caller has no room for');
      t.equal(getxattr('system.posix_acl_access', 100), -EOPNOTSUPP, 'ACLs do not exist');
      t.equal(native.listxattr(byteStringFromText(file), new Uint8Array(5)), -ERANGE, 'nor room for the names');
      t.throws(() => writeFileSync(join(root, 'new'), ''), { code: 'EROFS' }, 'read-only');
      t.equal(native.mount('', byteStringFromText(root), '', MS_REMOUNT, ''), 0, 'remounted to be written');
      t.throws(() => writeFileSync(join(root, 'new'), ''), { code: 'EROFS' }, 'it refuses to create');
      t.throws(() => mkdirSync(join(root, 'new')), { code: 'EROFS' }, 'it refuses to make a directory');
      t.throws(() => writeFileSync(file, 'changed'), { code: 'EROFS' }, 'it refuses to truncate and write');
    });
  });

  await t.test('what is refused', async t => {
    await withLayers((root, layers) => {
      const stack = `${layers}/A:${layers}/B`;
      for (const [rule, options, target, message] of [
        ['a mount point that is one', [], root, /Mountpoint in use/],
        ['passthrough that must be', ['-o', 'passthrough=on'], layers, /passthrough=on/],
        ['a path that libfuse would cut off', [], join(layers, 'A', ...deep(layers)), /too long/],
      ] as const) {
        const { status, stderr } = mount(stack, target, ...options);
        t.equal(status, 32, rule);
        t.match(stderr, message, rule);
      }
      t.equal(readMounts().filter(({ path }) => path.startsWith(layers)).length, 1, 'and nothing is mounted');
    });
  });
});

/** The components of a directory that is made in layer A, of more than a thousand bytes. */
function deep(layers: string): string[] {
  const components = Array.from({ length: 5 }, () => 'x'.repeat(220));
  mkdirSync(join(layers, 'A', ...components), { recursive: true });
  return components;
}
