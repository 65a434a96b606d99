/** Proves that what install-helper writes serves mount(8), an fstab and systemd, in a mount namespace with a /sbin of its own. */
import { spawnSync } from 'node:child_process';
import {
  chownSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { lowerdata, packageFolder } from '../fixtures/mounts/mounted.ts';
import { member } from '../fixtures/oci/archives.ts';
import { archiveOf, writeImage, writeIndex } from '../fixtures/oci/layout.ts';
import { runCommand } from '../fixtures/run-command.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { without, withoutFuse, withoutRoot } from '../fixtures/skips.ts';

const HELPERS = ['mount.fuse.lowerdata', 'mount.lowerdata'];
const launcher = join(packageFolder, 'bin', 'lowerdata');
const units = join(packageFolder, 'systemd');

/** A directory with the layers A and B, and a mount point. */
function placed(rule: string, skip: string | false, use: (t: Test, directory: string) => Promise<void>): void {
  t.test(rule, { skip }, t =>
    withScratchAsync(async directory => {
      for (const name of ['A', 'B', 'mnt', 'sbin']) mkdirSync(join(directory, name));
      writeFileSync(join(directory, 'A', 'a'), 'A\n');
      await use(t, directory);
    }),
  );
}

placed('written, written again, removed', false, async (t, directory) => {
  const sbin = join(directory, 'sbin');
  const install = (...args: string[]) => runCommand(['install-helper', '--to', sbin, ...args]);
  for (let time = 0; time < 2; time++) {
    t.match(install('--force'), { status: 0, stderr: /^(lowerdata: warning: .*\n?)*$/ });
    t.same(readdirSync(sbin).sort(), HELPERS);
  }
  t.match(readFileSync(join(sbin, 'mount.lowerdata'), 'utf8'), `exec '${launcher}' --called mount.lowerdata "$@"\n`);
  t.match(install('--remove'), { status: 0, stderr: '' });
  t.same(readdirSync(sbin), []);
  t.equal(install('--remove').status, 0, 'what is not there needs no removal');
});

placed('what others have put there stays', false, async (t, directory) => {
  const sbin = join(directory, 'sbin');
  const file = join(sbin, 'mount.fuse.lowerdata');
  for (const [rule, put] of [
    ['a file', () => writeFileSync(file, '#!/bin/sh\n')],
    ['a symlink', () => symlinkSync(launcher, file)],
    ['a directory', () => mkdirSync(file)],
  ] as const) {
    put();
    for (const args of [['--force'], ['--remove']]) {
      const { status, stderr } = runCommand(['install-helper', '--to', sbin, ...args]);
      t.equal(status, 1, rule);
      t.equal(stderr.split('\n').at(-1), `lowerdata: ${file}: not written by this command; it stays as it is`, rule);
      t.same(readdirSync(sbin), ['mount.fuse.lowerdata'], `${rule}: and nothing is half done`);
    }
    spawnSync('rm', ['-r', file]);
  }
  const { status, stderr } = runCommand(['install-helper', '--force', '--to', join(directory, 'none')]);
  t.equal(status, 1);
  t.match(stderr.split('\n').at(-1), /^lowerdata: .*none\/mount\.lowerdata: No such file or directory/);
});

placed('a Node.js that a user can exchange is refused', withoutRoot, async (t, directory) => {
  const [sbin, node] = [join(directory, 'sbin'), join(directory, 'home', 'node')];
  mkdirSync(join(directory, 'home'));
  copyFileSync(process.execPath, node);
  chownSync(join(directory, 'home'), 1000, 1000);
  const install = (...args: string[]) =>
    spawnSync(node, [lowerdata, 'install-helper', '--to', sbin, ...args], { encoding: 'utf8' });
  const what = `${node}: root would run it, but ${directory}/home belongs to user 1000`;
  t.match(install(), {
    status: 1,
    stderr: `lowerdata: ${what}; install it where root alone can write, or use --force\n`,
  });
  t.same(readdirSync(sbin), [], 'nothing is written');
  const forced = install('--force');
  t.equal(forced.status, 0);
  t.equal(forced.stderr.split('\n')[0], `lowerdata: warning: ${what}`);
  t.same(readdirSync(sbin).sort(), HELPERS, 'unless that is asked for');
});

/** Runs lines of sh where /sbin holds what install-helper writes, with nothing in the environment. */
function shell(directory: string, script: string) {
  runCommand(['install-helper', '--force', '--to', join(directory, 'sbin')]);
  const sbin = `mount -t overlay none -o lowerdir=${directory}/sbin:/usr/sbin /usr/sbin`;
  const args = ['-m', '/usr/bin/env', '-i', '/bin/sh', '-ec', `cd "$0"; ${sbin}; ${script}`, directory];
  const { status, stdout, stderr } = spawnSync('unshare', args, { encoding: 'utf8', timeout: 60_000 });
  return { status, stdout, stderr: stderr.trim() };
}
const ended = 'umount mnt; while mountpoint -q mnt; do sleep 0.1; done';

for (const [rule, mount] of [
  ['mount -t lowerdata', 'mount -t lowerdata A:B mnt'],
  ['mount -t fuse.lowerdata', 'mount -t fuse.lowerdata A:B mnt'],
  ['with options of both', 'mount -t lowerdata A:B mnt -o ro,noatime,allow_other,redirect_dir=nofollow'],
  ['as /etc/fstab has it', 'mount -T fstab mnt'],
  ['all of an fstab', 'mount -T fstab -a'],
] as const) {
  placed(rule, withoutFuse, async (t, directory) => {
    const line = `${directory}/A:${directory}/B ${directory}/mnt lowerdata ro,nofail,x-systemd.requires-mounts-for=/srv 0 0\n`;
    writeFileSync(join(directory, 'fstab'), line);
    const findmnt = 'findmnt -no FSTYPE,SOURCE mnt';
    const { status, stdout, stderr } = shell(directory, `${mount}; ls mnt; ${findmnt}; ${ended}`);
    t.equal(status, 0, stderr);
    t.match(stdout, /^a\nfuse\.lowerdata .*A:.*B(\[\/merged\])?\n$/);
  });
}

placed('remounted by mount(8)', withoutFuse, async (t, directory) => {
  const script = `mount -t lowerdata A:B mnt; mount -o remount,noatime,nosuid mnt; findmnt -no VFS-OPTIONS mnt; ls mnt; ${ended}`;
  const { status, stdout, stderr } = shell(directory, script);
  t.equal(status, 0, stderr);
  t.equal(stdout, 'ro,nosuid,noatime\na\n');
});

t.test('docs/mounting.md: the lines of fstab', async t => {
  const page = readFileSync(join(packageFolder, 'docs', 'mounting.md'), 'utf8');
  const lines = page.match(/^\S+ +\/\S+ +(fuse\.)?lowerdata .*$/gm) ?? [];
  t.ok(lines.length > 1);
  await withScratchAsync(async directory => {
    for (const [i, line] of lines.entries()) {
      const home = join(directory, String(i));
      for (const name of ['A', 'objects', 'sbin', 'mnt']) mkdirSync(join(home, name), { recursive: true });
      writeFileSync(join(home, 'A', 'a'), 'A\n');
      runCommand(['mkfs', `--digest-store=${home}/objects`, `${home}/A`, `${home}/image.cfs`]);
      const layout = join(home, 'layout');
      writeIndex(layout, [writeImage(layout, [archiveOf(member({ name: 'a' }, 'A\n'))])]);
      runCommand(['pull', `oci:${layout}`, '--store', join(home, 'store'), '--name', 'app']);
      const here = line.replace('/srv/data', '/srv/mnt').replaceAll('/srv/', `${home}/`);
      writeFileSync(join(home, 'fstab'), `${here}\n`);
      if (withoutFuse) t.comment(withoutFuse);
      else {
        const { status, stdout, stderr } = shell(home, `mount -T fstab mnt; ls mnt; ${ended}`);
        t.same([status, stdout], [0, 'a\n'], `${line}: ${stderr}`);
      }
    }
  });
});

const UNITS = ['lowerdata.service', 'lowerdata.socket', 'lowerdata@.service'];

t.test('the units are written, written again, removed', t =>
  withScratchAsync(async directory => {
    const install = (...args: string[]) => runCommand(['install-helper', '--systemd', '--to', directory, ...args]);
    const unit = join(directory, 'lowerdata@.service');
    for (let time = 0; time < 2; time++) {
      t.match(install('--force'), { status: 0, stderr: /^(lowerdata: warning: .*\n?)*$/ });
      t.same(readdirSync(directory).sort(), UNITS);
    }
    const text = readFileSync(unit, 'utf8');
    t.match(text, `\nExecStart="${launcher}" mount --foreground `);
    t.match(text, `\nExecReload="${launcher}" mount -o remount,`);
    t.match(text, `\n[Service]\nEnvironment="LOWERDATA_NODE=${process.execPath}"\n`);
    t.equal(statSync(unit).mode & 0o777, 0o644);
    t.match(install('--remove'), { status: 0, stderr: '' });
    t.same(readdirSync(directory), []);
    writeFileSync(unit, '[Unit]\n');
    t.match(install('--force'), { status: 1, stderr: /: not written by this command; it stays as it is$/ });
    t.equal(readFileSync(unit, 'utf8'), '[Unit]\n', "another's unit stays");
  }),
);

t.test('systemd finds nothing wrong with the units', { skip: without('systemd-analyze') }, t =>
  withScratchAsync(async directory => {
    runCommand(['install-helper', '--systemd', '--force', '--to', directory]);
    cpSync(join(directory, 'lowerdata@.service'), join(directory, 'lowerdata@data.service'));
    cpSync(join(units, 'srv-data.mount'), join(directory, 'srv-data.mount'));
    const files = readdirSync(directory).filter(name => !name.includes('@.'));
    t.same(files.sort(), ['lowerdata.service', 'lowerdata.socket', 'lowerdata@data.service', 'srv-data.mount']);
    const env = { ...process.env, MANPATH: join(packageFolder, 'dist', 'man') };
    const args = ['verify', '--man=no', ...files.map(name => join(directory, name))];
    const { status, stderr } = spawnSync('systemd-analyze', args, { encoding: 'utf8', env });
    const ours = stderr.split('\n').filter(line => /lowerdata|srv-data/.test(line));
    t.same([status, ours], [0, []], stderr);
  }),
);

placed('the service starts what it says', withoutFuse, async (t, directory) => {
  const text = readFileSync(join(units, 'lowerdata@.service'), 'utf8');
  const [, words = ''] = /^ExecStart=lowerdata (.*)$/m.exec(text) ?? [];
  const script = `
    SOURCE=A:B MOUNTPOINT=mnt OPTIONS=ro,allow_other
    set -- ${words.replace(/\$\{(\w+)\}/g, '"$$$1"')}
    '${launcher}' "$@" 2>log & daemon=$!
    i=0; until mountpoint -q mnt || [ $i -gt 100 ]; do sleep 0.1; i=$((i + 1)); done
    ls mnt; kill $daemon; wait $daemon; echo "status $?"`;
  const { stdout, stderr } = spawnSync('sh', ['-c', script], { cwd: directory, encoding: 'utf8', timeout: 60_000 });
  t.equal(stdout, 'a\nstatus 0\n', stderr);
  t.ok(existsSync(join(directory, 'log')));
});
t.end();
