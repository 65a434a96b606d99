/** Stacks with an upper layer and its index that are read without a mount: what the kernel shows of them is what is wanted. */
import { appendFileSync, chmodSync, linkSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { command } from '../fixtures/mounts/mounted.ts';
import { withoutIndex, withoutWritableOverlay, withWritable } from '../fixtures/mounts/writable.ts';
import { runCommand } from '../fixtures/run-command.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';

t.setTimeout(120_000);

const NAMES = ['h1', 'h2', 'd/h3', 'big1', 'd/big2'];
const LARGE = 'a'.repeat(100_000);

/** Changes a file with three names by the first, and the mode of one with two; the other names are in the index alone. */
async function prepare(home: string): Promise<Record<string, [text: string, nlink: number, mode: number]>> {
  mkdirSync(join(home, 'lower/d'), { recursive: true });
  const lower = (name: string): string => join(home, 'lower', name);
  writeFileSync(lower('h1'), 'hard');
  writeFileSync(lower('big1'), LARGE);
  writeFileSync(lower('f'), 'text');
  for (const [name, other] of [
    ['h1', 'h2'],
    ['h1', 'd/h3'],
    ['big1', 'd/big2'],
  ] as const)
    linkSync(lower(name), lower(other));
  const stack = { lowerdir: join(home, 'lower'), home, options: 'index=on,metacopy=on' };
  return withWritable('kernel', stack, root => {
    appendFileSync(join(root, 'h1'), '+');
    chmodSync(join(root, 'big1'), 0o600);
    return Object.fromEntries(
      NAMES.map(name => {
        const { nlink, mode } = statSync(join(root, name));
        return [name, [readFileSync(join(root, name), 'latin1'), nlink, mode]];
      }),
    );
  });
}

t.test('without a mount', { skip: withoutWritableOverlay || withoutIndex }, t =>
  withScratchAsync(async home => {
    const wanted = await prepare(home);
    const lower = join(home, 'lower');
    const written = `upperdir=${home}/upper,workdir=${home}/work`;
    const read = (options: string, name: string): string => command('cat', '-o', options, lower, `/${name}`);
    for (const [name, [text, nlink, mode]] of Object.entries(wanted)) {
      t.equal(read(`${written},index=on`, name), text, `${name}: its text`);
      const [stat] = JSON.parse(command('stat', '--json', '-o', `${written},index=on`, lower, `/${name}`)).files;
      t.match(stat, { nlink, mode: `${(mode & 0o7777).toString(8).padStart(4, '0')}` }, `${name}: its links and mode`);
    }
    t.equal(read(written, 'h2'), 'hard', 'without the option, each name is a file of its own');
    const explained = command('explain', '-o', `${written},index=on`, lower, '/h2');
    t.match(explained, /U1/, 'the rule is named');

    const image = join(home, 'new.cfs');
    command('commit', '-o', `${written},index=on`, '--digest-store', join(home, 'objects'), lower, image);
    await withWritable('kernel', { lowerdir: lower, home, options: 'index=on,metacopy=on' }, root => {
      const { status, stdout, stderr } = runCommand(['compare', root, `${image}::${home}/objects`]);
      t.equal(status, 0, `an image has what the kernel shows: ${stdout}${stderr}`);
    });

    mkdirSync(join(home, 'other'));
    const other = `upperdir=${home}/other,workdir=${home}/work,index=on`;
    t.match(runCommand(['cat', '-o', other, lower, '/f']), {
      status: 1,
      stderr: /workdir \S+\/work: its index belongs to another upperdir than \S+\/other/,
    });
    rmSync(join(home, 'work/index'), { recursive: true });
    t.equal(read(`${written},index=on`, 'f'), 'text', 'there need not be an index');
    t.equal(read(`${written},index=on`, 'h2'), 'hard', 'what it had is lost with it');
  }),
);
