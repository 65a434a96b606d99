/**
 * Containers on storage that the command mounts, in the place of fuse-overlayfs, as root and as an ordinary user. They show what
 * containers on the kernel's own overlay show.
 */
import type { SpawnSyncReturns } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import { launcher } from '../../src/mount/launch.ts';
import { goldenFolder } from '../fixtures/images/golden-images.ts';
import { asUser, inSurroundings, unreachable, withImage } from '../fixtures/mounts/container-user.ts';
import { without, withoutFuse } from '../fixtures/skips.ts';

const script = join(goldenFolder, '..', 'mounts', 'containers.sh');
const PROGRAMS = ['podman', 'buildah', 'crun', 'busybox', 'setpriv'];
const missing = withoutFuse || (PROGRAMS.map(without).find(reason => reason !== false) ?? false);
const missingForUsers = missing || without('newuidmap');

/** A line of what is shown: containers/storage loses set-user-ID in a committed image with force_mask. */
const SET_USER_ID = '1 4755 0 /work/6';

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
t.end();
