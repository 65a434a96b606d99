/**
 * Containers on storage that the command mounts, in the place of fuse-overlayfs, as root and as an ordinary user. They show what
 * containers on the kernel's own overlay show.
 */
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { launcher } from '../../src/mount/launch.ts';
import { goldenFolder } from '../fixtures/images/golden-images.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { without, withoutFuse } from '../fixtures/skips.ts';

const script = join(goldenFolder, '..', 'mounts', 'containers.sh');
const PROGRAMS = ['podman', 'buildah', 'crun', 'busybox', 'setpriv'];
const missing = withoutFuse || (PROGRAMS.map(without).find(reason => reason !== false) ?? false);
const missingForUsers = missing || without('newuidmap');

/** A line of what is shown: containers/storage loses set-user-ID in a committed image with force_mask. */
const SET_USER_ID = '1 4755 0 /work/6';

/** An ordinary user, who exists only in the mount namespace of the test. */
const ID = 4711;

/** A root with busybox and its links, as a tar file. */
const IMAGE = `
root=$1/root
mkdir -p "$root/bin" "$root/etc" "$root/home" "$root/tmp" "$root/proc" "$root/sys" "$root/dev"
chmod 1777 "$root/tmp"
cp "$(command -v busybox)" "$root/bin/busybox"
busybox --list-full | while read -r link; do
  mkdir -p "$root/\${link%/*}"
  [ -e "$root/$link" ] || ln -s /bin/busybox "$root/$link"
done
echo root:x:0:0:root:/root:/bin/sh >"$root/etc/passwd"
seq 50 >"$root/etc/group"
echo home >"$root/home/file"
tar -C "$root" --owner=0 --group=0 --numeric-owner -cf "$1/image.tar" .
chmod 644 "$1/image.tar"
`;

/**
 * The surroundings of a container in a virtual machine: /dev/fuse for everybody, as udev makes it, no second cgroup hierarchy,
 * which crun refuses, and a user with subordinate IDs.
 */
const SURROUNDINGS = `
set -e
home=$1; shift
umount /sys/fs/cgroup/unified 2>/dev/null || :
[ -e "$home/fuse" ] || mknod -m 666 "$home/fuse" c 10 229
mount --bind "$home/fuse" /dev/fuse
add() { # FILE LINE
  cp "/etc/$1" "$home/$1" && echo "$2" >>"$home/$1" && mount --bind "$home/$1" "/etc/$1"
}
add passwd "lowerdata-test:x:${ID}:${ID}::$home/user:/bin/sh"
add group "lowerdata-test:x:${ID}:"
add subuid lowerdata-test:300000:65536
add subgid lowerdata-test:300000:65536
mkdir -p "$home/user/run" && chown -R ${ID}:${ID} "$home/user" && chmod 700 "$home/user/run"
exec "$@"
`;

const inSurroundings = (home: string, ...words: string[]): SpawnSyncReturns<string> =>
  spawnSync('unshare', ['-m', 'sh', '-c', SURROUNDINGS, 'sh', home, ...words], { encoding: 'utf8', timeout: 300_000 });

const asUser = (home: string, ...words: string[]): string[] => [
  ...['setpriv', `--reuid=${ID}`, `--regid=${ID}`, '--clear-groups', '--inh-caps=-all', 'env', '-i'],
  ...[`HOME=${home}/user`, `XDG_RUNTIME_DIR=${home}/user/run`, `PATH=${process.env.PATH}`],
  ...words,
];

function withImage(act: (home: string) => Promise<void>): Promise<void> {
  return withScratchAsync(async home => {
    chmodSync(home, 0o755);
    const made = spawnSync('sh', ['-c', IMAGE, 'sh', home], { encoding: 'utf8' });
    if (made.status !== 0) throw new Error(made.stderr);
    await act(home);
  });
}

/** What the script says, and what it complained about if it failed. */
const outcome = ({ status, stdout, stderr }: SpawnSyncReturns<string>): unknown =>
  status === 0 ? stdout.split('\n') : { status, stdout, stderr };

t.test('containers', { skip: missing }, async t => {
  await withImage(async home => {
    const image = join(home, 'image.tar');
    const shown = (program: string, name: string, ...mask: string[]): unknown =>
      outcome(inSurroundings(home, 'sh', script, program, image, join(home, name), ...mask));
    const wanted = shown('native', 'kernel');
    if (!Array.isArray(wanted)) {
      t.comment(JSON.stringify(wanted));
      t.pass('as root', { skip: 'podman runs no container here, with the storage of the kernel either' });
      return;
    }
    t.ok(wanted.includes('built') && wanted.includes('== left mounted: 0'), 'the script has done what it says');
    t.strictSame(shown(launcher, 'ours'), wanted, 'as root');
    const masked = wanted.map(line => (line === SET_USER_ID ? line.replace('4755', '755') : line));
    t.ok(masked.includes('1 755 0 /work/6'), 'a file has set-user-ID');
    t.strictSame(shown(launcher, 'masked', '0700'), masked, 'with force_mask');
    await t.test('as an ordinary user', { skip: missingForUsers || unreachable(home) }, async t => {
      const words = asUser(home, 'sh', script, launcher, image, join(home, 'user', 'ours'));
      t.strictSame(outcome(inSurroundings(home, ...words)), wanted, 'the same');
      const other = asUser(home, 'sh', script, launcher, image, join(home, 'user', 'masked'), '0700');
      t.strictSame(outcome(inSurroundings(home, ...other)), masked, 'with force_mask');
      inSurroundings(home, ...asUser(home, 'buildah', 'unshare', 'rm', '-rf', join(home, 'user')));
    });
  });
});

/** Whether the user may run the command and Node.js. */
function unreachable(home: string): string | false {
  const { status } = inSurroundings(home, ...asUser(home, launcher, '--version'));
  return status === 0 ? false : 'an ordinary user may not run the command from here';
}
