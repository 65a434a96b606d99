/**
 * The merge of layers into an image: its digest is that of another program's merge by the same rules, on layers with all that
 * images have, and on layers by chance; and what is mounted is what umoci unpacks.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { dump } from '../fixtures/dump.ts';
import { run } from '../fixtures/mounts/kernel-mount.ts';
import { lowerdata } from '../fixtures/mounts/mounted.ts';
import { ociFixtures } from '../fixtures/oci/archives.ts';
import { makeLayout } from '../fixtures/oci/layout.ts';
import { type Result, runCommand } from '../fixtures/run-command.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { without, withoutFuse } from '../fixtures/skips.ts';

t.setTimeout(600_000);

const SEEDS = Number(process.env.LOWERDATA_FUZZ ?? 15);
const RULES = ['spec', 'composefs-rs'];

const program = (name: string, ...args: string[]): string[] => [join(ociFixtures, name), ...args];
const layersIn = (home: string): string[] =>
  readdirSync(home)
    .filter(name => name.endsWith('.tar'))
    .sort()
    .map(name => join(home, name));

/** The digest of the image that the other program merges; undefined if it merges none. */
function otherDigest(home: string, rule: string): string | undefined {
  const args = program('merge-layers.py', rule, join(home, 'other'), ...layersIn(home));
  const { status, stdout, stderr } = spawnSync('python3', args, { maxBuffer: 1 << 28 });
  if (status !== 0 && !/a hard link to nothing/.test(String(stderr))) throw new Error(String(stderr));
  if (status !== 0) return undefined;
  writeFileSync(join(home, 'dump'), stdout);
  const made = runCommand(['mkfs', '--from-file', '--min-version=1', '--print-digest-only', join(home, 'dump')]);
  return made.stdout.trim();
}

const pull = (home: string, ...args: string[]): Result =>
  runCommand(['pull', `oci:${join(home, 'layout')}`, '--store', join(home, 'store'), ...args]);
const digestIn = ({ stdout }: Result): string => stdout.slice(0, 64);

/** Holds the merge of the layers in a directory against the other one, by both rules. */
function compare(t: Test, home: string, rule: string): void {
  makeLayout(join(home, 'layout'), 'gzip', layersIn(home));
  const want = RULES.map(each => otherDigest(home, each));
  for (const [i, each] of RULES.entries()) {
    const made = pull(home, `--whiteouts=${each}`);
    if (want[i] === undefined) t.match(made, { status: 1, stderr: /a hard link to/ }, `${rule}, ${each}: refused, too`);
    else t.equal(digestIn(made), want[i], `${rule}, ${each}`);
    if (made.status !== 0) continue;
    const told = /--whiteouts=[-\w]+ makes \w+, --whiteouts=[-\w]+ (no image|\w+)/.exec(made.stderr)?.[1];
    const other = want[1 - i] ?? 'no image';
    t.equal(told ?? want[i], other, `${rule}, ${each}: says what the other rule makes`);
  }
}

t.test('all that an image can have', { skip: without('python3') }, async t =>
  withScratchAsync(async home => {
    execFileSync('python3', program('make-layers.py', home));
    compare(t, home, 'everything');
    const differs = pull(home);
    t.match(differs.stderr, /^lowerdata: a layer hides names that it has itself: --whiteouts=spec makes /);
    const others = execFileSync('find', ['-type', 'f'], { cwd: join(home, 'other'), encoding: 'utf8' })
      .trim()
      .split('\n');
    for (const object of others)
      execFileSync('cmp', [join(home, 'other', object), join(home, 'store', 'objects', object)]);
    t.ok(others.length > 5, `${others.length} objects have the bytes that the other program wrote`);
  }),
);

t.test('layers by chance', { skip: without('python3') }, async t => {
  const start = Date.now() % 1e6;
  for (let seed = start; seed < start + SEEDS; seed++)
    await withScratchAsync(async home => {
      execFileSync('python3', program('make-layers.py', home, String(seed)));
      compare(t, home, `seed ${seed}`);
    });
});

/** The lines of a tree without /run, which an image has empty, and with times in whole seconds, as umoci sets them. */
const linesOf = (directory: string): string[] => dump(directory).filter(line => !/^b'\/run/.test(line));

t.test('what umoci unpacks', { skip: withoutFuse || without('umoci') || without('losetup') }, async t =>
  withScratchAsync(async home => {
    const at = (name: string): string => join(home, name);
    execFileSync('python3', program('make-layers.py', home));
    makeLayout(at('layout'), 'gzip', layersIn(home));
    execFileSync('umoci', ['unpack', '--image', `${at('layout')}:test`, at('bundle')], { stdio: 'pipe' });
    const want = linesOf(at('bundle/rootfs'));
    t.ok(want.length > 25, `${want.length} names`);
    const made = pull(home, '--name', 'an/image');
    const digest = digestIn(made);
    for (const name of ['mnt', 'erofs', 'kernel']) mkdirSync(at(name));

    const call = made.stdout.split('\n').find(line => line.startsWith('lowerdata mount')) as string;
    execFileSync('sh', [
      '-ec',
      call.replace('lowerdata', `'${process.execPath}' '${lowerdata}'`).replace('MOUNTPOINT', at('mnt')),
    ]);
    try {
      t.strictSame(linesOf(at('mnt')), want, 'mounted by the call that is printed');
    } finally {
      run('umount', at('mnt'));
    }
    run('mount', '-t', 'erofs', '-o', 'loop,ro', at(`store/images/${digest}`), at('erofs'));
    const layers = `ro,metacopy=on,redirect_dir=follow,lowerdir=${at('erofs')}::${at('store/objects')}`;
    try {
      run('mount', '-t', 'overlay', 'overlay', '-o', layers, at('kernel'));
      t.strictSame(linesOf(at('kernel')), want, 'mounted by the kernel');
    } finally {
      run('umount', '-q', at('kernel'));
      run('umount', at('erofs'));
    }
  }),
);
t.end();
