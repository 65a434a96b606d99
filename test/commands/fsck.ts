/** Proves `lowerdata fsck`: each kind of damage is found, told apart, and nothing else is. */

import { spawn } from 'node:child_process';
import {
  appendFileSync,
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { fsverityDigest } from '../fixtures/images/verity.ts';
import { lowerdata } from '../fixtures/mounts/mounted.ts';
import { runCommand } from '../fixtures/run-command.ts';
import { withScratch, withScratchAsync } from '../fixtures/scratch.ts';
import { withoutRoot } from '../fixtures/skips.ts';

/** What fsck says; its JSON has one object a line. */
interface Said {
  status: number | null;
  problems: { path: string; code: string; message: string }[];
  numbers: Record<string, unknown>;
}

/** An image of some files, its objects, and a place for journals. */
class Place {
  readonly stack: string;
  readonly tree: string;
  readonly env: Record<string, string>;
  private readonly home: string;

  constructor(home: string, files: Record<string, Buffer | string>) {
    this.home = home;
    this.tree = join(home, 'tree');
    this.stack = `${home}/image::${home}/objects`;
    this.env = { XDG_CACHE_HOME: join(home, 'cache') };
    mkdirSync(this.tree);
    for (const [name, content] of Object.entries(files)) writeFileSync(join(this.tree, name), content);
    const made = runCommand(['mkfs', `--digest-store=${home}/objects`, this.tree, `${home}/image`]);
    if (made.status !== 0) throw new Error(made.stderr);
  }

  /** Where the object of a file is. */
  object(name: string): string {
    const digest = fsverityDigest(join(this.tree, name));
    return join(this.home, 'objects', digest.slice(0, 2), digest.slice(2));
  }

  fsck(...args: string[]): Said {
    const { status, stdout } = runCommand(['fsck', '--json', this.stack, ...args], { env: this.env });
    const lines = stdout
      .trim()
      .split('\n')
      .map(line => JSON.parse(line));
    return { status, problems: lines.slice(0, -1), numbers: lines.at(-1) };
  }
}

const content = (letter: string, size = 1000): string => letter.repeat(size);

function overwrite(path: string, at: number): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, '\xff', at, 'latin1');
  closeSync(fd);
}

t.test('damage', { skip: withoutRoot }, async t =>
  withScratch(home => {
    const large = Buffer.alloc(3_000_000, 'large');
    const place = new Place(home, {
      a: content('a'),
      b: content('b'),
      c: content('c'),
      again: content('a'),
      large,
      tiny: 'in the image',
    });
    const sound = place.fsck();
    t.equal(sound.status, 0, 'a sound store: 0');
    t.strictSame(sound.problems, [], 'without a problem');
    t.match(
      sound.numbers,
      { files: 6, objects: 5, shared: 1, problems: 0, cancelled: false, bytes: 3_004_000 },
      'all is counted',
    );

    const object = place.object('b');
    const kept = `${home}/kept`;
    const other = place.object('c');
    for (const [rule, code, damage] of [
      ['a byte that changed', 'EWRONGVERITY', () => overwrite(object, 7)],
      ['a byte more', 'EWRONGSIZE', () => appendFileSync(object, 'b')],
      ['a byte less', 'EWRONGSIZE', () => truncateSync(object, 999)],
      ['removed', 'ENOENT', () => rmSync(object)],
      [
        'a symlink to a good one',
        'ENOENT',
        () => {
          rmSync(object);
          symlinkSync(kept, object);
        },
      ],
      [
        'a directory',
        'ENOENT',
        () => {
          rmSync(object);
          mkdirSync(object);
        },
      ],
      [
        'another object of the same size',
        'EWRONGVERITY',
        () => {
          writeFileSync(object, readFileSync(other));
        },
      ],
    ] as const) {
      writeFileSync(kept, content('b'));
      damage();
      const { status, problems, numbers } = place.fsck();
      t.equal(status, 4, `${rule}: 4`);
      t.match(problems, [{ path: '/b', code }], `${rule}: ${code}`);
      t.ok(problems[0]?.message.includes(`/${object.split('/').slice(-2).join('/')}`), `${rule}: names the object`);
      t.equal(numbers.problems, 1, `${rule}: and nothing else`);
      rmSync(object, { recursive: true, force: true });
      renameSync(kept, object);
    }
    t.equal(place.fsck().status, 0, 'repaired: 0');

    overwrite(place.object('large'), 2_999_999);
    const text = runCommand(['fsck', place.stack], { env: place.env });
    t.match(
      text.stdout,
      /^\/large: EWRONGVERITY: layer .*objects: \S+: the digest of the data is [0-9a-f]{64}, but its metacopy says/m,
    );
    t.match(
      text.stdout,
      /^6 files, 5 with data elsewhere \(3 MB\); 1 share an object with another; 1 problems$/m,
      'numbers for people',
    );
  }),
);

t.test('files without a digest', async t =>
  withScratch(home => {
    const tree = join(home, 'tree');
    mkdirSync(tree);
    writeFileSync(join(tree, 'f'), content('f'));
    const image = join(home, 'image');
    t.equal(runCommand(['mkfs', '--external', tree, image]).status, 0);
    const env = { XDG_CACHE_HOME: join(home, 'cache') };
    const fsck = (...args: string[]) => runCommand(['fsck', '--json', `${image}::${tree}`, ...args], { env });
    t.match(JSON.parse(fsck().stdout), { objects: 1, withoutDigest: 1, problems: 0 }, 'are there, and that is all');
    const required = fsck('-o', 'verity=require');
    t.equal(required.status, 4, 'verity=require: 4');
    t.match(JSON.parse(required.stdout.split('\n')[0] ?? ''), { path: '/f', code: 'ENOVERITY' }, 'ENOVERITY');
    appendFileSync(join(tree, 'f'), 'more');
    t.match(JSON.parse(fsck().stdout.split('\n')[0] ?? ''), { code: 'EWRONGSIZE' }, 'their size is looked at');
  }),
);

t.test('the image itself', async t =>
  withScratch(home => {
    const place = new Place(home, { a: content('a') });
    const image = join(home, 'image');
    const status = (...args: string[]): number | null => runCommand(['fsck', ...args], { env: place.env }).status;
    t.equal(status(`${home}/none::${home}/objects`), 8, 'missing: 8');
    t.equal(status('--threads=0', place.stack), 16, 'a wrong call: 16');
    t.equal(status(place.stack, '-o', 'nonsense'), 16, 'a wrong option: 16');
    t.equal(status(place.stack, '-o', `digest=${fsverityDigest(image)}`), 0, 'its digest is right: 0');
    t.equal(status(place.stack, '-o', `digest=${'0'.repeat(64)}`), 4, 'its digest is wrong: 4');
    truncateSync(image, 4096);
    t.equal(status(place.stack), 4, 'cut off: 4');
  }),
);

t.test('fs-verity of the kernel', { skip: withoutRoot }, async t =>
  withScratch(home => {
    const place = new Place(home, { a: content('a'), b: content('b') });
    overwrite(place.object('a'), 0);
    const { status, numbers } = place.fsck('--enable-verity');
    const { verityEnabled, verityThere, verityImpossible } = numbers as Record<string, number>;
    t.equal(status, 4, 'what is wrong stays wrong');
    t.equal((verityEnabled ?? 0) + (verityThere ?? 0) + (verityImpossible ?? 0), 1, 'only good objects are guarded');
  }),
);

t.test('an interrupted run', { skip: withoutRoot }, async t =>
  withScratchAsync(async home => {
    const files = Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`f${i}`, content(String(i), 65 + i)]));
    const place = new Place(home, { ...files, wrong: content('w') });
    overwrite(place.object('wrong'), 0);
    t.equal(place.fsck().numbers.known, 0, 'nothing is known at first');
    t.equal(place.fsck().numbers.known, 0, 'nor after a run that came to its end');

    // and a file that takes seconds
    const image = join(home, 'image');
    const line = `/zeros ${2 ** 33} 100644 1 0 0 0 0.0 ze/ros - ${'0'.repeat(64)}\n`;
    const dump = runCommand(['info', 'dump', image]).stdout + line;
    t.equal(runCommand(['mkfs', '--from-file', '-', image], { input: dump }).status, 0);
    const zeros = join(home, 'objects', 'ze', 'ros');
    mkdirSync(dirname(zeros));
    writeFileSync(zeros, '');
    truncateSync(zeros, 2 ** 33);

    const stopped = await interrupted(place);
    t.equal(stopped.status, 32, 'cancelled: 32');
    t.equal(stopped.numbers.cancelled, true, 'and says so');
    t.strictSame(codes(stopped), ['/wrong EWRONGVERITY'], 'what was found is told');
    rmSync(zeros);
    const next = place.fsck();
    t.match(next.numbers, { cancelled: false, known: 20 }, 'the next run goes on');
    t.strictSame(codes(next), ['/wrong EWRONGVERITY', '/zeros ENOENT'], 'and finds again what is wrong');
    t.equal(place.fsck().numbers.known, 0, 'a run that came to its end leaves nothing to go on with');

    writeFileSync(zeros, '');
    truncateSync(zeros, 2 ** 33);
    await interrupted(place);
    rmSync(zeros);
    overwrite(place.object('f7'), 3);
    const changed = place.fsck();
    t.equal(changed.numbers.known, 19, 'what changed meanwhile is checked');
    t.strictSame(codes(changed), ['/f7 EWRONGVERITY', '/wrong EWRONGVERITY', '/zeros ENOENT']);

    writeFileSync(zeros, '');
    truncateSync(zeros, 2 ** 33);
    await interrupted(place);
    rmSync(zeros);
    t.equal(place.fsck('--restart').numbers.known, 0, '--restart checks all');
  }),
);

const codes = ({ problems }: Said): string[] => problems.map(({ path, code }) => `${path} ${code}`).sort();

/** Runs fsck, and interrupts it when it has found something. */
async function interrupted(place: Place): Promise<Said> {
  const child = spawn(process.execPath, [lowerdata, 'fsck', '--json', place.stack], {
    env: { ...process.env, ...place.env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let stdout = '';
  child.stdout.on('data', piece => {
    if (stdout === '') child.kill('SIGINT');
    stdout += piece;
  });
  const status = await new Promise<number | null>(resolve => child.on('close', resolve));
  const lines = stdout
    .trim()
    .split('\n')
    .map(line => JSON.parse(line));
  return { status, problems: lines.slice(0, -1), numbers: lines.at(-1) };
}
t.end();
