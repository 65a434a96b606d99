/** The store of `mkfs --digest-store`, when a build is killed, and when an object is damaged. */

import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import t from 'tap';
import { fsverityDigests } from '../fixtures/images/verity.ts';
import { run } from '../fixtures/mounts/kernel-mount.ts';
import { lowerdata } from '../fixtures/mounts/mounted.ts';
import { runCommand } from '../fixtures/run-command.ts';
import { withScratch, withScratchAsync } from '../fixtures/scratch.ts';
import { without, withoutRoot } from '../fixtures/skips.ts';

t.setTimeout(300_000); // many processes are started

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** A tree that takes long enough to be killed in, and several threads. */
function makeTree(directory: string): void {
  mkdirSync(directory);
  for (let i = 0; i < 130; i++) {
    const sub = join(directory, `d${i % 7}`);
    mkdirSync(sub, { recursive: true });
    writeFileSync(join(sub, `f${i}`), Buffer.alloc(65 + random(320_000), String(i)));
  }
}

/** Source: xorshift32, Marsaglia 2003. */
let state = 0x2545f491;
function random(below: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
}

/** Paths below a store and the fs-verity digest of each object, without the copies of dead runs. */
function objectsIn(store: string): [string, string][] {
  if (!existsSync(store)) return [];
  const names = readdirSync(store).filter(name => !name.startsWith('.tmp-'));
  const paths = names.flatMap(name => readdirSync(join(store, name)).map(rest => `${name}/${rest}`));
  if (paths.length === 0) return [];
  const digests = fsverityDigests(paths.map(path => join(store, path)));
  return paths.map((path, i) => [path.replace('/', ''), digests[i] as string]);
}

t.test('a build that is killed leaves whole objects', async t =>
  withScratchAsync(async directory => {
    const [tree, store, image] = ['tree', 'store', 'image'].map(name => join(directory, name)) as [
      string,
      string,
      string,
    ];
    makeTree(tree);
    const args = ['mkfs', '--threads=2', '--digest-store', store, tree, image];
    const startedAt = Date.now();
    t.equal(runCommand(args).status, 0, 'a build to compare with');
    const tookMs = Date.now() - startedAt;
    const wanted = sha256(readFileSync(image));
    const all = objectsIn(store)
      .map(([name]) => name)
      .sort();
    t.equal(all.length, 130, 'it stores every file');
    let wrong = 0;
    let partial = 0;
    for (let round = 0; round < 50; round++) {
      if (round % 3 !== 1) rmSync(store, { recursive: true }); // else it goes on where the last one was killed
      rmSync(image, { force: true });
      const child = spawn(process.execPath, [lowerdata, ...args], { stdio: 'ignore' });
      const ended = new Promise(resolve => child.on('exit', resolve));
      await setTimeout(random(tookMs));
      child.kill('SIGKILL');
      await ended;
      const objects = objectsIn(store);
      wrong += objects.filter(([name, digest]) => name !== digest).length;
      if (objects.length > 0 && objects.length < all.length) partial++;
      if (existsSync(image) && sha256(readFileSync(image)) !== wanted) wrong++;
      mkdirSync(store, { recursive: true });
    }
    t.equal(wrong, 0, 'no wrong object, no wrong image');
    t.ok(partial > 5, `${partial} of 50 were killed in the middle`);
    t.equal(runCommand(args).status, 0, 'the next build succeeds');
    t.same(
      objectsIn(store)
        .map(([name]) => name)
        .sort(),
      all,
      'and completes the store',
    );
    t.equal(sha256(readFileSync(image)), wanted, 'with the same image');
  }),
);

/** Starts a build that takes long, and calls `use` when it copies. */
async function whileItCopies(
  directory: string,
  args: string[],
  use: (child: ReturnType<typeof spawn>) => void,
): Promise<{ signal: NodeJS.Signals | null; left: string[] }> {
  const [tree, store] = [join(directory, 'slow'), join(directory, 'slow-store')];
  if (!existsSync(tree)) {
    mkdirSync(tree);
    for (let i = 0; i < 4; i++) {
      writeFileSync(join(tree, `f${i}`), String(i));
      truncateSync(join(tree, `f${i}`), 250_000_000);
    }
  }
  const all = [lowerdata, 'mkfs', ...args, '--digest-store', store, tree, join(directory, 'slow-image')];
  const child = spawn(process.execPath, all, { stdio: 'ignore' });
  const ended = new Promise<NodeJS.Signals | null>(resolve => child.on('exit', (_, signal) => resolve(signal)));
  const copies = (): string[] => (existsSync(store) ? readdirSync(store).filter(name => name.startsWith('.tmp-')) : []);
  while (copies().length === 0 && child.exitCode === null) await setTimeout(10);
  await setTimeout(100);
  use(child);
  const signal = await ended;
  return { signal, left: copies() };
}

t.test('a build that is interrupted', async t =>
  withScratchAsync(async directory => {
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
      for (const threads of [1, 2]) {
        const rule = `${name}, ${threads} threads`;
        const { signal, left } = await whileItCopies(directory, [`--threads=${threads}`], child => child.kill(name));
        t.equal(signal, name, `${rule}: ends it`);
        t.same(left, [], `${rule}: leaves no copies`);
      }
    const killed = await whileItCopies(directory, [], child => child.kill('SIGKILL'));
    t.equal(killed.left.length, 1, 'killed, it leaves them');
    makeTree(join(directory, 'tree'));
    const args = [
      'mkfs',
      '--digest-store',
      join(directory, 'slow-store'),
      join(directory, 'tree'),
      join(directory, 'i'),
    ];
    t.equal(runCommand(args).status, 0);
    t.notOk(
      readdirSync(join(directory, 'slow-store')).some(name => name.startsWith('.tmp-')),
      'to the next build, which removes them at once',
    );
    let other = -1;
    const living = await whileItCopies(directory, [], child => {
      other = runCommand(args).status ?? -1;
      child.kill('SIGTERM');
    });
    t.same([other, living.left], [0, []], 'another build at the same time changes nothing for either');
  }),
);

/** Exchanges two names for ever, as nobody. */
const EXCHANGER = `
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
a, b = (os.fsencode(path) for path in sys.argv[1:])
os.setgid(65534)
os.setuid(65534)
print('ready', flush=True)
while libc.renameat2(-100, a, -100, b, 2) == 0: pass
sys.exit(ctypes.get_errno())
`;

t.test('a tree whose owner changes it meanwhile', { skip: withoutRoot || without('python3') }, async t =>
  withScratchAsync(async directory => {
    chmodSync(directory, 0o711);
    const at = (...names: string[]): string => join(directory, ...names);
    mkdirSync(at('private'), { mode: 0o700 });
    mkdirSync(at('tree', 'd'), { recursive: true });
    for (let i = 0; i < 60; i++)
      for (const [kind, times] of [
        ['small', 3],
        ['large', 1000],
      ] as const) {
        writeFileSync(at('private', `${kind}${i}`), 'TOP SECRET '.repeat(times), { mode: 0o600 });
        writeFileSync(at('tree', 'd', `${kind}${i}`), `NO SECRET${i % 10} `.repeat(times));
      }
    symlinkSync(at('private'), at('tree', 'e'));
    run('chown', '-Rh', '65534:65534', at('tree'));
    const attacker = spawn('python3', ['-c', EXCHANGER, at('tree', 'd'), at('tree', 'e')], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      await new Promise(resolve => attacker.stdout.once('data', resolve));
      let stolen = 0;
      let refused = 0;
      for (let round = 0; round < 15; round++) {
        rmSync(at('image'), { force: true });
        const { status, stderr } = runCommand(['mkfs', '--digest-store', at('store'), at('tree'), at('image')]);
        if (status !== 0) {
          refused++;
          t.match(stderr, `lowerdata: ${at('tree')}/`, 'what it could not read is named');
        }
        if (spawnSync('grep', ['-rq', 'TOP SECRET', at('store'), at('image')]).status === 0) stolen++;
      }
      t.equal(attacker.exitCode, null, 'it is attacked all the time');
      t.equal(stolen, 0, `no byte from elsewhere in image or store; ${refused} of 15 builds were refused`);
    } finally {
      attacker.kill();
    }
  }),
);

t.test('a damaged object', async t =>
  withScratch(directory => {
    const at = (name: string): string => join(directory, name);
    mkdirSync(at('tree'));
    writeFileSync(at('tree/big'), Buffer.alloc(1 << 16, 'x'));
    t.equal(runCommand(['mkfs', '--digest-store', at('store'), at('tree'), at('image')]).status, 0, 'a store');
    const [[name] = ['']] = objectsIn(at('store'));
    const object = join(at('store'), name.slice(0, 2), name.slice(2));
    writeFileSync(object, 'cut');
    t.equal(runCommand(['mkfs', '--digest-store', at('store'), at('tree'), at('image')]).status, 0, 'again');
    t.equal(statSync(object).size, 1 << 16, 'an object that was cut short is replaced');
    writeFileSync(object, Buffer.alloc(1 << 16, 'y'));
    const { status, stderr } = runCommand(['mkfs', '--digest-store', at('store'), at('tree'), at('image')]);
    t.same(
      [status, stderr],
      [0, `lowerdata: ${object}: replaced, because its data did not have the digest in its name`],
      'it is told of',
    );
    t.ok(readFileSync(object).equals(Buffer.alloc(1 << 16, 'x')), 'one with other bytes, too');
  }),
);
