/** POSIX ACLs of directory layers through real mounts, for ordinary users, beside the kernel's overlayfs. */
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { must } from '../../src/sys/errno.ts';
import { native } from '../../src/sys/native.ts';
import { soon } from '../fixtures/mounts/foreground.ts';
import { command, withMount } from '../fixtures/mounts/mounted.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { without, withoutFuse } from '../fixtures/skips.ts';

const MS_RDONLY = 1;
const NOBODY = 65534;
const skip = withoutFuse || without('python3');

/** Has nobody ask for the attributes of a path. @returns the name of the error, or an empty line */
function asNobody(path: string, times = 1): string {
  const program = `
import errno, os, sys
os.setgroups([]); os.setgid(${NOBODY}); os.setuid(${NOBODY})
try:
    for i in range(int(sys.argv[2])): os.stat(sys.argv[1])
    print()
except OSError as error: print(errno.errorcode[error.errno])`;
  return execFileSync('python3', ['-c', program, path, String(times)], { encoding: 'utf8' }).trim();
}

/**
 * Gives a directory of mode 0755 an ACL by which nobody has these permissions. Source: linux/posix_acl_xattr.h: version 2,
 * then tag, permissions and id of each entry.
 */
function setAcl(directory: string, permissions: number): boolean {
  const program = `
import os, struct, sys
none = 0xffffffff
entries = [(1, 7, none), (2, int(sys.argv[2]), ${NOBODY}), (4, 5, none), (16, 7, none), (32, 5, none)]
os.setxattr(sys.argv[1], 'system.posix_acl_access', struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *e) for e in entries))`;
  return spawnSync('python3', ['-c', program, directory, String(permissions)]).status === 0;
}

/** Layers `a`, with `directory/file`, and `b`, both of root, as `a:b`. */
function makeLayers(home: string): string {
  for (const path of ['a/directory', 'b']) mkdirSync(join(home, path), { recursive: true });
  for (const path of ['.', 'a', 'a/directory', 'b']) chmodSync(join(home, path), 0o755);
  writeFileSync(join(home, 'a/directory/file'), '');
  return `${home}/a:${home}/b`;
}

/** How many requests for an xattr a mount has had. */
function xattrsAskedFor(root: string): number {
  const text = command('status', root);
  return Number(/^ +GETXATTR +([\d,]+)/m.exec(text)?.[1]?.replaceAll(',', '') ?? 0);
}

/** The root of the filesystem that is mounted at a path. Source: proc_pid_mountinfo(5). */
function rootOf(path: string): string | undefined {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  return lines.map(line => line.split(' ')).find(([, , , , at]) => at === path)?.[3];
}

const WALKS = 300;
for (const [rule, options, root, isBounded] of [
  ['of root', [], '/merged', true],
  ['with flags', ['-o', 'nosuid,nodev,noexec,noatime,sync,lazytime'], '/merged', true],
  ['of which the kernel is to ask no ACLs', ['-o', 'noacl'], '/', true],
  ['whose source is too long for fsconfig(2)', ['-o', `fsname=${'s'.repeat(300)}`], '/', false],
] as const) {
  t.test(`paths that a user walks in a mount ${rule}`, { skip }, t =>
    withScratchAsync(async home => {
      const stack = makeLayers(home);
      await withMount([stack, ...options, '-o', 'allow_other'], at => {
        t.equal(rootOf(at), root, 'the directory that is mounted');
        const before = xattrsAskedFor(at);
        t.equal(asNobody(join(at, 'directory/file'), WALKS), '', 'are there');
        const count = xattrsAskedFor(at) - before;
        if (isBounded) t.ok(count < WALKS / 10, `the ACL of the root is asked for once, not for each: ${count}`);
        t.same(
          ['.', '..'].map(name => native.statx(-100, join(at, name), 0, 0x7ff, new Uint8Array(256))),
          [0, 0],
          'the root and what is around it',
        );
      });
    }),
  );
}

t.test('an ACL of the root', { skip }, t =>
  withScratchAsync(async home => {
    const stack = makeLayers(home);
    const layer = join(home, 'a');
    if (!setAcl(layer, 0)) return t.pass('', { skip: 'this filesystem has no ACLs' });
    const kernel = join(home, 'kernel');
    mkdirSync(kernel);
    if (native.mount('overlay', kernel, 'overlay', MS_RDONLY, `lowerdir=${stack}`) === 0) {
      const said = asNobody(join(kernel, 'directory/file'));
      must(native.umount(kernel, 0), 'umount');
      t.equal(said, 'EACCES', 'denies a user, as the kernel has it');
    }
    for (const timeout of [0, 1]) {
      setAcl(layer, 0);
      await withMount([stack, '-o', `allow_other,attr_timeout=${timeout}`], async root => {
        const path = join(root, 'directory/file');
        t.equal(asNobody(path, 10), 'EACCES', 'denies a user');
        t.equal(asNobody(path, 10), 'EACCES', 'again');
        t.equal(rootOf(root), '/merged');
        setAcl(layer, 5);
        if (timeout === 0) t.equal(asNobody(path, 10), '', 'shows at once when it changes');
        else t.ok(await soon(() => asNobody(path) === ''), 'shows when it changes');
        setAcl(layer, 0);
        if (timeout === 0) t.equal(asNobody(path, 10), 'EACCES', 'and back');
        else t.ok(await soon(() => asNobody(path) === 'EACCES'), 'and back');
      });
    }
  }),
);
