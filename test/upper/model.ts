/**
 * Random changes, made by the kernel's overlayfs and by this driver in turn on one upper layer, and the same changes in a copy of the
 * layers: after each turn, both trees must be the same. `LOWERDATA_HAMMER=60` for as many seconds, with a seed of the moment.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { must } from '../../src/sys/errno.ts';
import { native } from '../../src/sys/native.ts';
import { noErofs } from '../fixtures/mounts/kernel-mount.ts';
import { command } from '../fixtures/mounts/mounted.ts';
import {
  dumpTrees,
  type Maker,
  runChanges,
  type Stack,
  withoutWritableOverlay,
  withWritable,
} from '../fixtures/mounts/writable.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';

const SECONDS = Number(process.env.LOWERDATA_HAMMER ?? 15);
const seed = process.env.LOWERDATA_HAMMER ? Date.now() % 100_000 : 1;
const MS_RDONLY = 1;

t.setTimeout(SECONDS * 3000 + 120_000);

/** A tree with a second one below it; `all` is what they show together. */
const LAYERS = `
umask 022
mkdir -p A/d/s A/e B/d/s/t B/d/u B/g
head -c 70000 /dev/urandom >A/a
echo b >A/d/b; echo c >A/d/s/c; echo 'a of B' >B/a; echo b >B/d/s/b; echo c >B/d/u/c; echo a >B/d/s/t/a; echo c >B/g/c
truncate -s 300000 B/b
printf end | dd of=B/b bs=1 seek=250000 conv=notrunc status=none
ln -s d/b A/l
setfattr -n user.x -v lower A/d/b 2>/dev/null || python3 -c 'import os; os.setxattr("A/d/b", "user.x", b"lower")'
cp -a B all && cp -a A/. all/
find . -exec touch -h -d '2001-02-03 04:05:06' {} +
`;

/** Each is the whole lower part of a stack, as the option wants it. */
type Lowers = Readonly<Record<Maker, string>>;

const DIRECTORIES = ['d', 'd/s', 'd/u', 'e', 'g', 'n', 'd/n'];
const LEAVES = ['a', 'b', 'c', 'n'];
const directory = fc.constantFrom(...DIRECTORIES);
const file = fc
  .tuple(fc.constantFrom('', ...DIRECTORIES.map(name => `${name}/`)), fc.constantFrom(...LEAVES))
  .map(([above, leaf]) => above + leaf);
const any = fc.oneof(file, directory);
const handle = fc.constantFrom('h1', 'h2');
const size = fc.constantFrom(0, 1, 4096, 5000, 100_000);
const text = fc.constantFrom('x', 'longer', 'y'.repeat(5000));
const quoted = (path: string): string => `'${path}'`;

const statement = (...parts: (string | fc.Arbitrary<unknown>)[]): fc.Arbitrary<string> =>
  fc.tuple(...parts.map(part => (typeof part === 'string' ? fc.constant(part) : part))).map(words => words.join(''));
const p = any.map(quoted);
const f = file.map(quoted);
const d = directory.map(quoted);
const content = text.map(quoted);

/** Changes of names, attributes and data. */
const CHANGES: readonly fc.Arbitrary<string>[] = [
  statement('put(', f, ', ', content, ')'),
  statement('put(', f, ', ', content, ', O_CREAT | O_EXCL)'),
  statement('append(', f, ', ', content, ')'),
  statement('truncate(', f, ', ', size, ')'),
  statement('poke(', f, ', 0, "P")'),
  statement('unlink(', p, ')'),
  statement('mkdir(', d, ')'),
  statement('rmdir(', d, ')'),
  statement('shutil.rmtree(', d, ')'),
  statement('rename(', p, ', ', p, ')'),
  statement('rename(', p, ', ', p, ')'),
  statement('rename2(', p, ', ', p, ', NOREPLACE)'),
  statement('rename2(', p, ', ', p, ', EXCHANGE)'),
  statement('link(', f, ', ', f, ')'),
  statement('symlink(', f, ', ', f, ')'),
  statement('chmod(', p, ', 0o', fc.constantFrom('600', '644', '755', '4711'), ')'),
  statement('chown(', p, ', ', fc.constantFrom(0, 7), ', 8)'),
  statement('utime(', p, ', ns=(5, ', fc.constantFrom(0, 1_234_567_890_123_456_789n), '))'),
  statement('setxattr(', p, ', "user.', fc.constantFrom('x', 'y'), '", b"', fc.constantFrom('', 'v'), '")'),
  statement('removexattr(', p, ', "user.x")'),
  statement('copy_range(', f, ', ', f, ', 3000, ', fc.constantFrom(0, 100), ')'),
  statement('fallocate(', f, ', KEEP_SIZE | PUNCH_HOLE, 0, ', size, ')'),
  statement('nameless(', d, ', "unnamed", ', f, ')'),
  statement(handle, ' = open(', f, ', O_RDWR)'),
  statement('pwrite(', handle, ', b"held", ', size, ')'),
  statement('ftruncate(', handle, ', ', size, ')'),
  statement('at(', handle, ')'),
  statement('fstat(', handle, ').st_size'),
  statement('get(', f, ')'),
  statement('names(', d, ')'),
  statement('stat.filemode(os.lstat(', f, ').st_mode)'),
  statement('size(os.lstat(', f, '))'),
];
/** Where the kernel shows old data: a file that was opened for reading, or mapped, before it was copied up. */
const ONLY_OURS: readonly fc.Arbitrary<string>[] = [
  statement(handle, ' = open(', f, ', O_RDONLY)'),
  statement('m = mapped(', f, ')'),
  statement('shown(m[:50])'),
];

interface Turn {
  readonly maker: Maker;
  readonly statements: readonly string[];
}

const turn = (maker: Maker, kinds: readonly fc.Arbitrary<string>[]): fc.Arbitrary<Turn> =>
  fc.record({
    maker: fc.constant(maker),
    statements: fc.array(fc.oneof(...kinds), { minLength: 1, maxLength: 80, size: 'max' }),
  });
const turns = fc.array(fc.oneof(turn('kernel', CHANGES), turn('lowerdata', [...CHANGES, ...ONLY_OURS])), {
  minLength: 2,
  maxLength: 4,
});

/** What is compared of an object: not how many blocks and links the filesystem below counts. */
const comparable = (dump: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(dump).map(([path, line]) => [path, line.replace(/ (no-)?blocks/, '')]));

/** Makes the same changes in a new stack and in a new copy, and throws where they differ. */
async function check(home: string, lowers: Lowers, made: readonly Turn[]): Promise<void> {
  const place = join(home, 'run');
  const copy = join(place, 'copy');
  mkdirSync(place);
  try {
    execFileSync('cp', ['-a', join(home, 'all'), copy]);
    for (const [i, { maker, statements }] of made.entries()) {
      const stack: Stack = { lowerdir: lowers[maker], home: place, options: 'metacopy=on,redirect_dir=on' };
      await withWritable(maker, stack, root => {
        const [here, there] = runChanges([
          [root, statements],
          [copy, statements],
        ]);
        equal(`turn ${i + 1}, by ${maker}: what the calls gave`, here, there);
        const [shown, wanted] = dumpTrees(
          [
            [root, 'upper'],
            [copy, 'upper'],
          ],
          0n,
          [],
        );
        equal(`turn ${i + 1}, by ${maker}: the tree`, comparable(shown ?? {}), comparable(wanted ?? {}));
      });
    }
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}

function equal(what: string, found: unknown, wanted: unknown): void {
  if (JSON.stringify(found) === JSON.stringify(wanted)) return;
  const [ours, others] = [found, wanted].map(one => Object.entries(one as object).map(pair => JSON.stringify(pair)));
  const only = (these: string[] = [], those: string[] = []): string =>
    these.filter(one => !those.includes(one)).join('\n');
  throw new Error(`${what}\nfound ${only(ours, others)}\nwanted ${only(others, ours)}`);
}

/** Checks random turns for a while. @returns how many, or the first that fail, as short as they could be made */
async function model(home: string, lowers: Lowers): Promise<number | string> {
  const until = performance.now() + SECONDS * 1000;
  for (let runs = 0; ; runs++) {
    if (performance.now() > until) return runs;
    const property = fc.asyncProperty(turns, made => check(home, lowers, made));
    const { failed, counterexample, errorInstance } = await fc.check(property, { seed: seed + runs, numRuns: 1 });
    if (failed) return `seed ${seed + runs}: ${JSON.stringify(counterexample)}: ${errorInstance}`;
  }
}

const skip = withoutWritableOverlay || noErofs() || false;

t.test('changes by both', { skip }, t =>
  withScratchAsync(async home => {
    execFileSync('sh', ['-ec', LAYERS], { cwd: home });
    const [image, objects, mounted] = ['image', 'objects', 'erofs'].map(name => join(home, name)) as [
      string,
      string,
      string,
    ];
    command('mkfs', `--digest-store=${objects}`, join(home, 'all'), image);
    mkdirSync(mounted);
    must(native.mount(image, mounted, 'erofs', MS_RDONLY, ''), `mount ${image}`);
    try {
      const directories = `${home}/A:${home}/B`;
      for (const [rule, lowers] of [
        ['over directories', { kernel: directories, lowerdata: directories }],
        ['over an image', { kernel: `${mounted}::${objects}`, lowerdata: `${image}::${objects}` }],
      ] as const) {
        const runs = await model(home, lowers);
        t.ok(typeof runs === 'number' && runs > 0, `${rule}: ${runs} runs`);
      }
    } finally {
      must(native.umount(mounted, 0), `umount ${mounted}`);
    }
  }),
);
