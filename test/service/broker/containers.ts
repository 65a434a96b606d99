/** Containers of an ordinary user on a signed image of the service's store, which the user cannot read by itself. */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { asUser, inSurroundings, unreachable, withImage } from '../../fixtures/mounts/container-user.ts';
import { soon } from '../../fixtures/mounts/foreground.ts';
import { command, packageFolder } from '../../fixtures/mounts/mounted.ts';
import { TAG, writeImage, writeIndex } from '../../fixtures/oci/layout.ts';
import { KEY_KINDS, makeSignatory } from '../../fixtures/seals.ts';
import { without, withoutFuse } from '../../fixtures/skips.ts';

t.setTimeout(240_000);
const launcher = join(packageFolder, 'bin', 'lowerdata');
const clientProgram = join(packageFolder, 'test', 'fixtures', 'service', 'client.py');
const PROGRAMS = ['podman', 'crun', 'busybox', 'setpriv', 'newuidmap', 'openssl'];
const missing = withoutFuse || (PROGRAMS.map(without).find(reason => reason !== false) ?? false);

/** What the user runs in its namespaces: mounts, and containers with the mount, and with an overlay over it. */
const SESSION = `
set -e
cd "$HOME"
mkdir mnt tmp upper work merged
python3 "$1" "client = Client('$2'); client.mount('app', 'mnt')"
stat -c '%u %g' mnt/bin/busybox
cat mnt/etc/secret
mount -t overlay none merged -o userxattr,lowerdir=mnt,upperdir=upper,workdir=work
run() {
  podman --root storage --runroot run-storage --tmpdir "$HOME/tmp" --cgroup-manager=cgroupfs --events-backend=file --runtime crun \\
    run --rm --network=none --cgroups=disabled "$@"
}
run --rootfs "$HOME/merged" /bin/sh -c 'id -u; cat /etc/secret; echo changed >/etc/new; rm /home/file; ls /home; seq 3 | wc -l'
cat upper/etc/new
ls mnt/home
`;

function serve(home: string): ChildProcess {
  const at = (name: string): string => join(home, name);
  const args = ['--store', at('store'), '--socket', at('socket'), '--keys', at('keys')];
  return spawn(launcher, ['serve', ...args], { stdio: ['ignore', 'ignore', 'inherit'] });
}

t.test('a container on a signed image', { skip: missing }, t =>
  withImage(async home => {
    const obstacle = unreachable(home);
    if (obstacle) return void t.pass(obstacle, { skip: obstacle });
    const at = (name: string): string => join(home, name);
    const image = writeImage(at('layout'), [readFileSync(at('image.tar'))]);
    writeIndex(at('layout'), [{ ...image, annotations: { [TAG]: 'app' } }]);
    const { keyFile, certFile } = makeSignatory(home, 'signer', KEY_KINDS.p256);
    mkdirSync(at('keys'));
    copyFileSync(certFile, join(at('keys'), 'signer.pem'));
    command('seal', `oci:${at('layout')}:app`, '--store', at('other'), '--key', keyFile, '--cert', certFile);
    command('pull', `oci:${at('layout')}:app`, '--store', at('store'), '--name', 'app');
    chmodSync(at('store'), 0o700);
    const service = serve(home);
    try {
      const isThere = (): boolean => statSync(at('socket'), { throwIfNoEntry: false })?.isSocket() === true;
      t.ok(await soon(isThere));
      const words = ['podman', 'unshare', 'sh', '-c', SESSION, 'sh', clientProgram, at('socket')];
      const { stdout, stderr } = inSurroundings(home, ...asUser(home, ...words));
      t.equal(stdout, ['0 0', 'for root', '0', 'for root', '3', 'changed', 'file', ''].join('\n'), stderr);
      inSurroundings(home, ...asUser(home, 'podman', 'unshare', 'rm', '-rf', join(home, 'user')));
    } finally {
      const ended = new Promise(done => service.once('exit', done));
      service.kill('SIGTERM');
      await ended;
    }
  }),
);
t.end();
