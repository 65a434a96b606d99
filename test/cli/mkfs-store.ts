/** The store of `mkfs --digest-store`, when a build is killed, and when an object is damaged. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import t from 'tap';
import { noProgram, run } from '../fixtures/kernel-mount.ts';
import { lowerdata } from '../fixtures/mounted.ts';
import { runCommand } from '../fixtures/run-command.ts';
import { withScratch, withScratchAsync } from '../fixtures/scratch.ts';

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
  const digests = run('fsverity', 'digest', '--compact', ...paths.map(path => join(store, path)))
    .trim()
    .split('\n');
  return paths.map((path, i) => [path.replace('/', ''), digests[i] as string]);
}

t.test('a build that is killed leaves whole objects', { skip: noProgram('fsverity') ?? false }, async t =>
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
  }),
);
