/** `lowerdata commit`: an image of what a changed stack shows, mounted by the kernel beside the stack. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { dump } from '../fixtures/dump.ts';
import { run } from '../fixtures/mounts/kernel-mount.ts';
import { runCommand } from '../fixtures/run-command.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { without, withoutFuse } from '../fixtures/skips.ts';

/** Changes of every kind, by a shell in the root of the tree. */
const CHANGES = `
echo more >>kept && chmod 600 large && rm gone && rm -r old && mv tree moved
ln kept twice && ln -s target link && mkfifo fifo && mkdir -m 1777 made && echo new >made/file
truncate -s 0 emptied && chown 1:2 moved/one && touch -d @5 moved && printf '\\377' >"$(printf 'b\\351')"
python3 -c 'import os; os.setxattr("large", "user.note", b"x")'
`;

function command(...args: string[]): void {
  const { status, stderr } = runCommand(args);
  if (status !== 0) throw new Error(stderr);
}

t.test('an image of a changed stack', { skip: withoutFuse || without('losetup') }, t =>
  withScratchAsync(async home => {
    const at = (name: string): string => join(home, name);
    for (const name of ['source/tree', 'source/old', 'upper', 'work', 'mnt', 'erofs', 'kernel'])
      mkdirSync(at(name), { recursive: true });
    for (const name of ['kept', 'gone', 'emptied', 'tree/one', 'old/one'])
      writeFileSync(at(`source/${name}`), `${name} `.repeat(50));
    writeFileSync(at('source/large'), Buffer.alloc(300_000, 'large'));
    writeFileSync(at('source/small'), 'small');
    command('mkfs', `--digest-store=${at('objects')}`, at('source'), at('first.cfs'));
    const stack = `${at('first.cfs')}::${at('objects')}`;
    const options = `upperdir=${at('upper')},workdir=${at('work')}`;
    command('mount', stack, at('mnt'), '-o', options);
    let shown: string[];
    try {
      execFileSync('sh', ['-ec', CHANGES], { cwd: at('mnt') });
      shown = dump(at('mnt'));
    } finally {
      run('umount', at('mnt'));
    }
    command('commit', '-o', options, `--digest-store=${at('objects')}`, stack, at('second.cfs'));
    run('mount', '-t', 'erofs', '-o', 'loop,ro', at('second.cfs'), at('erofs'));
    const layers = `ro,metacopy=on,redirect_dir=follow,lowerdir=${at('erofs')}::${at('objects')}`;
    try {
      run('mount', '-t', 'overlay', 'overlay', '-o', layers, at('kernel'));
      t.strictSame(dump(at('kernel')), shown, 'the kernel shows in it what the stack showed');
    } finally {
      run('umount', at('kernel'));
      run('umount', at('erofs'));
    }

    truncateSync(objectOf(at('objects'), 300_000), 10);
    const damaged = runCommand(['commit', '-o', options, '--digest-store', at('other'), stack, at('third.cfs')]);
    t.equal(damaged.status, 1, 'an object that is damaged ends it');
    t.match(damaged.stderr, /digest|shorter|EIO|error/i);
    t.notOk(readdirSync(home).includes('third.cfs'), 'and no image is written');
    t.match(runCommand(['commit', stack, at('third.cfs')]).stderr, /--digest-store is missing/, 'the store is named');
  }),
);

/** The object with a size. */
function objectOf(store: string, sizeBytes: number): string {
  const names = readdirSync(store, { recursive: true, encoding: 'utf8' }).map(name => join(store, name));
  const found = names.find(name => statSync(name).isFile() && statSync(name).size === sizeBytes);
  if (found === undefined) throw new Error(`no object of ${sizeBytes} bytes`);
  return found;
}
