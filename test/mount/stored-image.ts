/** `-o store=`: an image by its name in a repository, for mounts and for all commands that take a stack. */
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { command, lowerdata, withMount } from '../fixtures/mounts/mounted.ts';
import { member } from '../fixtures/oci/archives.ts';
import { archiveOf, writeImage, writeIndex } from '../fixtures/oci/layout.ts';
import { type Result, runCommand } from '../fixtures/run-command.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse } from '../fixtures/skips.ts';

t.setTimeout(300_000);

const LARGE = 'x'.repeat(5000);
const STORE = 'st,o:re\\';
/** How an option spells it. */
const SPELLED = 'st\\,o\\:re\\\\';

/** A repository in a directory, with an image of a file and a device under some names. @returns the digest */
function fill(home: string): string {
  const layout = join(home, 'layout');
  const layer = archiveOf(
    member({ name: 'usr/', type: '5' }),
    member({ name: 'usr/large' }, LARGE),
    member({ name: 'usr/null', type: '3', devmajor: 1, devminor: 3 }),
  );
  writeIndex(layout, [writeImage(layout, [layer])]);
  const pull = (name: string): Result =>
    runCommand(['pull', `oci:${layout}`, '--store', STORE, '--name', name], { directory: home });
  const [made] = ['v1', 'team/app:v1,x'].map(pull);
  if (made?.status !== 0) throw new Error(made?.stderr);
  return made.stdout.slice(0, 64);
}

const isOpened = (path: string): boolean => {
  try {
    readFileSync(path);
    return true;
  } catch {
    return false;
  }
};

t.test('mounts', { skip: withoutFuse }, t =>
  withScratchAsync(async home => {
    const digest = fill(home);
    process.chdir(home);
    t.teardown(() => process.chdir('/'));
    const option = `store=${SPELLED}`;
    for (const name of ['v1', 'team/app:v1,x', digest])
      await withMount([name, '-o', option], root => {
        t.equal(readFileSync(join(root, 'usr/large'), 'utf8'), LARGE, name);
        const [mount] = JSON.parse(command('status', '--json', root)).mounts;
        const shown = { store: `${home}/${STORE.replace('\\', '\\x5c')}`, name, source: name };
        t.match(mount, { ...shown, protection: { metadata: 'digest', required: true } });
        t.match(command('status', root), `  image       ${name} in ${shown.store}\n`);
        t.equal(isOpened(join(root, 'usr/null')), name === digest, 'devices work where the digest was given');
      });
    await withMount(['none', '-o', `source=v1,${option}`], root => t.same(readdirSync(root), ['usr'], 'source='));
    await withMount(['v1', '-o', `${option},fsname=other`], root =>
      t.equal(JSON.parse(command('status', '--json', root)).mounts[0].source, 'other'),
    );
    for (const directory of ['upper', 'work']) mkdirSync(directory);
    await withMount(['v1', '-o', `${option},upperdir=upper,workdir=work`], root => {
      writeFileSync(join(root, 'usr/new'), 'new');
      writeFileSync(join(root, 'usr/large'), '+', { flag: 'a' });
    });
    t.equal(readFileSync('upper/usr/large', 'utf8'), `${LARGE}+`);

    symlinkSync(lowerdata, 'mount.lowerdata');
    mkdirSync('mnt');
    const helper = runCommand(['v1', 'mnt', '-o', `rw,nofail,${option}`], { as: join(home, 'mount.lowerdata') });
    t.match(helper, { status: 0, stderr: '' }, 'as mount(8) calls its helper');
    t.equal(statSync('mnt/usr/large').size, LARGE.length);
    t.match(runCommand(['umount', 'mnt']), { status: 0 });
    t.match(runCommand(['v1', 'mnt', '-o', option]), { status: 0, stderr: '' }, 'as mount.fuse3 calls the command');
    t.match(runCommand(['umount', 'mnt']), { status: 0 });
  }),
);

t.test('refused mounts', { skip: withoutFuse }, t =>
  withScratchAsync(async home => {
    const digest = fill(home);
    mkdirSync(join(home, 'mnt'));
    const refused = (source: string, options = `store=${SPELLED}`) =>
      runCommand(['mount', source, 'mnt', '-o', options], { directory: home });
    t.match(refused('v2'), { status: 32, stderr: /: no image has the name v2; the names are: team\/app:v1,x, v1$/ });
    t.match(refused('v1', 'store=none'), { status: 32, stderr: 'lowerdata: none: No such file or directory' });
    t.match(refused('v1', 'store='), { status: 1, stderr: /option store: needs a value/ });
    t.match(refused('v1', `store=${SPELLED},lowerdir=a:b`), { status: 32, stderr: /store: excludes lowerdir/ });
    const object = join(home, STORE, 'objects', digest.slice(0, 2), digest.slice(2));
    const image = readFileSync(object);
    image.writeUInt8(image.readUInt8(1100) ^ 1, 1100);
    rmSync(object);
    writeFileSync(object, image);
    t.match(refused('v1'), {
      status: 32,
      stderr: new RegExp(`the digest of the image is [0-9a-f]{64}, not ${digest}`),
    });
    t.match(refused('v1', `store=${SPELLED},digest=${'00'.repeat(32)}`), { status: 32, stderr: /, not 0{64}$/ });
  }),
);

t.test('commands', t =>
  withScratchAsync(async home => {
    const digest = fill(home);
    const run = (...args: string[]) => runCommand([...args, '-o', `store=${SPELLED}`], { directory: home });
    t.match(run('ls', 'v1', '/usr'), { status: 0, stdout: 'large\nnull\n' });
    t.match(run('cat', 'team/app:v1,x', '/usr/large'), { status: 0, stdout: LARGE });
    t.match(run('stat', digest, '/usr/large'), { status: 0, stdout: /5000/ });
    t.match(run('explain', 'v1', '/usr/large'), { status: 0, stdout: /objects/ });
    t.match(run('check', 'v1'), { status: 0, stdout: '' });
    t.match(run('fsck', 'v1'), { status: 0, stdout: /^1 file/ });
    t.match(run('compare', 'v1', 'team/app:v1,x'), { status: 0, stdout: '' });
    copyFileSync(join(home, STORE, 'images', digest), join(home, 'copy.cfs'));
    t.match(run('compare', 'v1', './copy.cfs'), { status: 0, stdout: '' }, 'a path beside a name');
    t.match(run('commit', 'v1', 'new.cfs', '--digest-store', 'objects'), { status: 0 });
    t.match(run('compare', 'v1', './new.cfs'), { status: 0, stdout: '' }, 'what was committed');
    t.match(run('ls', 'v2', '/'), { status: 1, stderr: /: no image has the name v2; / });
  }),
);
t.end();
