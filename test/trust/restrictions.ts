/** Devices and programs that an image or a layer brings into a mount, tried as an ordinary user. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { run } from '../fixtures/mounts/kernel-mount.ts';
import { command, withMount } from '../fixtures/mounts/mounted.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { without, withoutFuse } from '../fixtures/skips.ts';

t.setTimeout(120_000);

const asNobody = ['--reuid=65534', '--regid=65534', '--clear-groups'];
const SECRET = 'what root alone may read';

/** What nobody reads from a file: its start, or why not. */
function readAsNobody(path: string): string {
  const { status, stdout, stderr } = spawnSync('setpriv', [...asNobody, 'head', '-c', String(SECRET.length), path], {
    encoding: 'latin1',
    env: { ...process.env, LC_ALL: 'C' },
  });
  return status === 0 ? stdout : (/Permission denied/.exec(stderr)?.[0] ?? stderr);
}

t.test('device nodes', { skip: withoutFuse || without('losetup') || without('setpriv') }, async t =>
  withScratchAsync(async directory => {
    chmodSync(directory, 0o755);
    const at = (name: string): string => join(directory, name);
    writeFileSync(at('disk'), SECRET.padEnd(65_536, '.'));
    const loop = run('losetup', '--show', '--find', at('disk')).trim();
    try {
      chmodSync(loop, 0o600);
      t.equal(readAsNobody(loop), 'Permission denied', 'the disk itself');
      const { rdev } = statSync(loop);
      const dump = ['/ 4096 40755 2 0 0 0 0.0 - - -', `/disk 0 60666 1 0 0 ${rdev} 0.0 - - -`, ''].join('\n');
      writeFileSync(at('dump'), dump);
      const digest = command('mkfs', '--print-digest', '--from-file', at('dump'), at('image')).trim();
      mkdirSync(at('layer'));
      run('mknod', '-m', '666', at('layer/disk'), 'b', String(rdev >> 8), String(rdev & 0xff));
      for (const name of ['nodev', 'top']) mkdirSync(at(name));
      run('mount', '-t', 'tmpfs', '-o', 'mode=755', 'none', at('nodev'));
      run('mknod', '-m', '666', at('nodev/disk'), 'b', String(rdev >> 8), String(rdev & 0xff));
      run('mount', '-o', 'remount,nodev', at('nodev'));
      try {
        const [denied, open] = ['Permission denied', SECRET];
        for (const [rule, source, options, want] of [
          ['an image that nobody vouches for', at('image'), '', denied],
          ['below a directory', `${at('top')}:${at('image')}`, '', denied],
          ['the words of mount(8) do not change that', at('image'), 'suid,exec,rw,defaults', denied],
          ['whoever asks for devices has them', at('image'), 'dev', open],
          ['a digest vouches for the image', at('image'), `digest=${digest}`, open],
          ['a directory', at('layer'), '', open],
          ['nodev', at('layer'), 'nodev', denied],
          ['a directory of a filesystem that is mounted nodev', at('nodev'), '', denied],
          ['and dev', at('nodev'), 'dev', open],
        ] as const) {
          const found = await withMount([source, '-o', `allow_other,${options}`], root =>
            readAsNobody(join(root, 'disk')),
          );
          t.equal(found, want, rule);
        }
      } finally {
        run('umount', at('nodev'));
      }
    } finally {
      run('losetup', '--detach', loop);
    }
  }),
);

t.test('programs of a layer whose mount forbids them', { skip: withoutFuse || without('setpriv') }, async t =>
  withScratchAsync(async directory => {
    chmodSync(directory, 0o755);
    const layer = join(directory, 'layer');
    mkdirSync(layer);
    run('mount', '-t', 'tmpfs', '-o', 'mode=755', 'none', layer);
    try {
      run('cp', run('sh', '-c', 'command -v id').trim(), join(layer, 'id'));
      chmodSync(join(layer, 'id'), 0o4755);
      const user = (root: string): string => {
        const { status, stdout } = spawnSync('setpriv', [...asNobody, join(root, 'id'), '-u'], { encoding: 'latin1' });
        return status === 0 ? stdout.trim() : 'Permission denied';
      };
      for (const [rule, flags, options, want] of [
        ['a set-user-ID program', 'suid,exec', '', '0'],
        ['a layer that is mounted nosuid', 'nosuid,exec', '', '65534'],
        ['and suid', 'nosuid,exec', 'suid', '0'],
        ['a layer that is mounted noexec', 'suid,noexec', '', 'Permission denied'],
        ['and exec', 'suid,noexec', 'exec', '0'],
      ] as const) {
        run('mount', '-o', `remount,${flags}`, layer);
        t.equal(await withMount([layer, '-o', `allow_other,${options}`], user), want, rule);
      }
    } finally {
      run('umount', layer);
    }
  }),
);

t.test('they are told', { skip: withoutFuse }, async t =>
  withScratchAsync(async directory => {
    mkdirSync(join(directory, 'tree'));
    const image = join(directory, 'image');
    command('mkfs', join(directory, 'tree'), image);
    await withMount([image], root => {
      const [state] = JSON.parse(command('status', '--json', root)).mounts;
      t.same(
        state.protection.restrictions,
        [{ flag: 'nodev', why: `no digest vouches for the image ${image}` }],
        'in status',
      );
      const line = readFileSync('/proc/self/mountinfo', 'latin1')
        .split('\n')
        .find(text => text.includes(` ${root} `));
      t.match(line, / ro,nodev/, 'and in mountinfo');
    });
  }),
);
