/** Mounts that show owners by the mapping of a user namespace. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { mountAt, readMounts } from '../../src/fuse/mountinfo.ts';
import { byteStringFromText } from '../../src/sys/bytes.ts';
import { soon } from '../fixtures/mounts/foreground.ts';
import { packageFolder } from '../fixtures/mounts/mounted.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { without, withoutFuse, withoutUserNamespaces } from '../fixtures/skips.ts';

const program = join(packageFolder, 'bin', 'lowerdata');
const FROM = 300_000;
const COUNT = 65_536;

/** Calls `use` with a process in a user namespace whose ids 0 to COUNT - 1 are those from FROM on outside. */
async function withNamespace(use: (pid: number) => void | Promise<void>): Promise<void> {
  const child = spawn('unshare', ['-U', 'sleep', '1000'], { stdio: 'ignore' });
  const pid = child.pid as number;
  try {
    const own = readNamespace('self');
    if (!(await soon(() => readNamespace(pid) !== own))) throw new Error('no user namespace');
    for (const kind of ['uid', 'gid']) writeFileSync(`/proc/${pid}/${kind}_map`, `0 ${FROM} ${COUNT}`);
    await use(pid);
  } finally {
    child.kill('SIGKILL');
  }
}

const readNamespace = (pid: number | 'self'): number => statSync(`/proc/${pid}/ns/user`).ino;

/** Lines of stat(1) and cat(1) by root of a user namespace. */
const inside = (pid: number, script: string): string =>
  spawnSync('nsenter', ['-t', String(pid), '-U', '-S', '0', '-G', '0', 'sh', '-c', script], { encoding: 'utf8' })
    .stdout;

t.test('owners by a user namespace', { skip: withoutFuse || withoutUserNamespaces || without('setfacl') }, t =>
  withScratchAsync(async home => {
    chmodSync(home, 0o755);
    const [layer, mnt] = [join(home, 'layer'), join(home, 'mnt')];
    mkdirSync(layer);
    mkdirSync(mnt);
    for (const [name, uid, gid, mode] of [
      ['root', 0, 0, 0o600],
      ['user', 33, 44, 0o640],
      ['beyond', COUNT, 5, 0o644],
    ] as const) {
      writeFileSync(join(layer, name), name);
      chmodSync(join(layer, name), mode);
      chownSync(join(layer, name), uid, gid);
    }
    symlinkSync('root', join(layer, 'link'));
    for (const name of ['empty', 'acl', 'objects']) mkdirSync(join(home, name));
    const composefs = join(home, 'mount.composefs');
    symlinkSync(program, composefs);
    execFileSync(program, ['mkfs', `--digest-store=${home}/objects`, layer, join(home, 'image')]);
    execFileSync('setfacl', ['-m', 'u:1001:r', join(layer, 'user')]);
    await withNamespace(async pid => {
      const idmap = `idmap=/proc/${pid}/ns/user`;
      for (const [rule, called, words] of [
        ['layers with ACLs', program, ['mount', '-o', `allow_other,${idmap}`, `${layer}:${home}/empty`]],
        ['without ACLs', program, ['mount', '-o', `allow_other,noacl,${idmap}`, `${home}/acl:${layer}`]],
        ['mount.composefs', composefs, ['-o', `basedir=${home}/objects,${idmap}`, join(home, 'image')]],
      ] as const) {
        execFileSync(called, [...words, mnt]);
        const owners = (name: string): number[] => [statSync(join(mnt, name)).uid, statSync(join(mnt, name)).gid];
        t.same(owners('root'), [FROM, FROM], `${rule}: what root owns is owned by root of the namespace`);
        t.same(owners('user'), [FROM + 33, FROM + 44], 'another user is mapped');
        t.same(owners('beyond'), [65534, FROM + 5], 'one without a mapping is the overflow id');
        t.equal(
          inside(pid, `cd ${mnt}; stat -c '%u:%g %a' root user; cat root user link`),
          '0:0 600\n33:44 640\nrootuserroot',
          'in the namespace, owners are as in the layer, and its root reads what they may',
        );
        execFileSync(program, ['umount', mnt]);
        t.equal(mountAt(readMounts(), byteStringFromText(mnt)), undefined);
      }
    });
    const refuse = (options: string): string =>
      spawnSync(program, ['mount', '-o', options, layer, mnt], { encoding: 'utf8' }).stderr;
    t.match(refuse('idmap=/nowhere'), /option idmap=\/nowhere: No such file or directory\n$/);
    t.match(refuse('idmap=/etc/passwd'), /option idmap=\/etc\/passwd: not a user namespace with a mapping/);
    t.match(refuse('idmap=/proc/self/ns/user'), /a namespace that is not the initial one\n$/);
    t.match(
      refuse(`upperdir=${home}/empty,workdir=${home}/acl,idmap=/proc/self/ns/user`),
      /not for a mount with upperdir/,
    );
    t.equal(readFileSync(join(layer, 'root'), 'latin1'), 'root');
    t.equal(mountAt(readMounts(), byteStringFromText(mnt)), undefined, 'what is refused is not mounted');
  }),
);
