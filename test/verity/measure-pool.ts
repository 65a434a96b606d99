/** Proves src/verity/measure-pool.ts and the threads that it starts, src/verity/measure-worker.ts; also src/sys/workers. */
import { spawnSync } from 'node:child_process';
import { closeSync, fstatSync, openSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { sha256, sha512 } from '@noble/hashes/sha2.js';
import t, { type Test } from 'tap';
import { EBADF, EINTR, EIO } from '../../src/sys/errno.ts';
import type { Algorithm } from '../../src/verity/algorithms.ts';
import { MeasurePool } from '../../src/verity/measure-pool.ts';
import type { Outcome, Work } from '../../src/verity/measure-worker.ts';
import { fsverityDigest, fsverityDigests } from '../fixtures/images/verity.ts';
import { scratch } from '../fixtures/layers.ts';
import { descriptors } from '../fixtures/native.ts';

const BLOCK = 4096;
const SLICE = 1 << 20;
const LARGE = 2 ** 31;
/** Around the ends of blocks, of levels of the tree and of a thread's slices. */
const sizes = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 128 * BLOCK + 1, SLICE - 8192, SLICE, SLICE + 1, 5 * SLICE - 12_345];

const hex = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString('hex');
const digestOf = (outcome: Outcome | undefined): string => (outcome && 'digest' in outcome ? hex(outcome.digest) : '');
/** Bytes of which no two blocks are the same. */
const bytesOf = (size: number): Uint8Array => Uint8Array.from({ length: size }, (_, i) => (i * 13 + (i >> 12)) & 0xff);

/** What all threads of this process have read. Source: proc_pid_io(5). */
const bytesRead = (): number => Number(/rchar: (\d+)/.exec(readFileSync('/proc/self/io', 'latin1'))?.[1]);

/** The hash of each block, by a library that is not ours. */
function leavesOf(bytes: Uint8Array, algorithm: Algorithm): string {
  const hash = algorithm === 'sha256' ? sha256 : sha512;
  let leaves = '';
  for (let at = 0; at < bytes.length; at += BLOCK) {
    const block = new Uint8Array(BLOCK);
    block.set(bytes.subarray(at, at + BLOCK));
    leaves += hex(hash(block));
  }
  return leaves;
}

/** A directory, a pool, and open files, which are gone when the test is over. */
class Fixture {
  readonly pool: MeasurePool;
  readonly home: string;
  private readonly open: number[] = [];

  constructor(t: Test, threadsMax?: number) {
    this.home = scratch(t);
    this.pool = new MeasurePool(threadsMax);
  }

  async close(): Promise<void> {
    await this.pool.close();
    for (const fd of this.open) closeSync(fd);
  }

  path(name: string): string {
    return join(this.home, name);
  }

  /** A new file with these bytes, or with so many zeros that take no space. */
  work(name: string, content: Uint8Array | number, rest: Partial<Work> = {}): Work {
    const path = this.path(name);
    writeFileSync(path, typeof content === 'number' ? '' : content);
    if (typeof content === 'number') truncateSync(path, content);
    const sizeBytes = typeof content === 'number' ? content : content.length;
    const fd = openSync(path, 'r');
    this.open.push(fd);
    return { fd, sizeBytes, algorithm: 'sha256', withLeaves: false, ...rest };
  }
}

/** A test with a pool of so many threads. */
function pooled(rule: string, options: Options, use: (t: Test, f: Fixture) => Promise<void>): void {
  t.test(rule, { timeout: 60_000, skip: options.skip ?? false }, async t => {
    const before = descriptors();
    const f = new Fixture(t, options.threadsMax);
    try {
      await use(t, f);
    } finally {
      await f.close();
    }
    t.equal(descriptors(), before, 'no descriptor is left');
  });
}
interface Options {
  readonly threadsMax?: number;
  readonly skip?: string | undefined;
}

/** A descriptor that nobody has opened. */
const CLOSED = 999_999;

pooled('digests are those of the program fsverity', {}, async (t, f) => {
  for (const algorithm of ['sha256', 'sha512'] as const) {
    const works = sizes.map((size, i) => {
      const withLeaves = i % 3 !== 0;
      return f.work(`${size}`, bytesOf(size), { algorithm, withLeaves });
    });
    const batch = await f.pool.measure(works);
    const alone = await Promise.all(works.map(async work => (await f.pool.measure([work]))[0]));
    for (const [i, size] of sizes.entries()) {
      const wanted = fsverityDigest(f.path(`${size}`), algorithm);
      t.equal(digestOf(batch[i]), wanted, `${algorithm}: ${size} bytes, among others`);
      t.equal(digestOf(alone[i]), wanted, `${algorithm}: ${size} bytes, alone`);
      const leaves = works[i]?.withLeaves ? leavesOf(bytesOf(size), algorithm) : undefined;
      for (const outcome of [batch[i], alone[i]])
        if (outcome && 'digest' in outcome && (outcome.leaves && hex(outcome.leaves)) !== leaves)
          t.fail(`${algorithm}: leaves of ${size} bytes`);
    }
  }
  t.strictSame(await f.pool.measure([]), [], 'nothing to do');
  const [start] = await f.pool.measure([{ ...f.work('start', bytesOf(10_000)), sizeBytes: BLOCK }]);
  writeFileSync(f.path('block'), bytesOf(BLOCK));
  t.equal(digestOf(start), fsverityDigest(f.path('block')), 'of a file that is longer, the first bytes');
});

pooled('one thread', { threadsMax: 1 }, async (t, f) => {
  const small = f.work('small', bytesOf(BLOCK));
  const large = f.work('large', LARGE);
  const done: string[] = [];
  const note =
    (what: string) =>
    (result: unknown): void => {
      done.push(`${what} ${result instanceof Error ? result.name : 'ok'}`);
    };
  const [first, second] = [new AbortController(), new AbortController()];
  const begun = [
    f.pool.measure([large], first.signal).then(note('large'), note('large')),
    f.pool.measure([large, small], second.signal).then(note('large and small'), note('large and small')),
  ];
  const [outcome] = await f.pool.measure([small]);
  t.strictSame(done, [], 'a small file is not held up by large ones that came before');
  t.match(outcome, { digest: Uint8Array });

  first.abort();
  await begun[0];
  t.strictSame(done, ['large EINTR'], 'a measurement that nobody wants any more ends');
  await f.pool.measure([small]);
  t.strictSame(done, ['large EINTR'], 'the other goes on, and so does the thread');
  second.abort();
  await begun[1];
  t.strictSame(done, ['large EINTR', 'large and small EINTR'], 'of several files, too');

  const readBytes = bytesRead();
  await sleep(50);
  t.ok(bytesRead() - readBytes < SLICE, 'what was ended is not read on');

  const late = new AbortController();
  const [again] = await f.pool.measure([small], late.signal);
  late.abort();
  t.equal(digestOf(again), digestOf(outcome), 'ending what has ended is nothing');
  const sizeBytes = 64 * SLICE;
  const three = Array.from({ length: 3 }, () => f.pool.measure([{ ...large, sizeBytes }]));
  t.equal(new Set((await Promise.all(three)).map(([one]) => digestOf(one))).size, 1, 'several at a time do not mix');
});

pooled('nobody wants it to begin with', { threadsMax: 1 }, async (t, f) => {
  const large = f.work('large', 2 ** 36);
  await t.rejects(f.pool.measure([large], AbortSignal.abort()), { name: 'EINTR', errno: EINTR });
});

pooled('files that cannot be measured', { threadsMax: 1 }, async (t, f) => {
  const good = f.work('good', bytesOf(100_000));
  const [{ digest }] = (await f.pool.measure([good])) as [{ digest: Uint8Array }];
  const directory = openSync(f.home, 'r');
  for (const [rule, bad, errno, message] of [
    ['a descriptor that is closed', { ...good, fd: CLOSED }, EBADF, /^read at 0/],
    ['a negative one', { ...good, fd: -1 }, EBADF, /^read at 0/],
    ['a directory', { ...good, fd: directory }, 21, /^read at 0/],
    ['a file that is too short', { ...good, sizeBytes: 100_001 }, EIO, /^the data ends at 100000 of 100001 bytes$/],
    ['an empty one', f.work('empty', 0, { sizeBytes: 1 }), EIO, /^the data ends at 0 of 1 bytes$/],
    ['more leaves than there is memory', { ...good, sizeBytes: 2 ** 52, withLeaves: true }, EIO, /./],
    ['an algorithm that is none', { ...good, algorithm: 'md5' as Algorithm }, EIO, /./],
  ] as const) {
    const outcomes = await f.pool.measure([good, bad, { ...good, withLeaves: true }]);
    t.equal(outcomes.length, 3, `${rule}: an outcome for each`);
    t.match(outcomes[1], { errno, message }, `${rule}: an error for that one`);
    t.match([outcomes[0], outcomes[2]], [{ digest }, { digest }], `${rule}: none for those around it`);
    t.equal(
      hex((outcomes[2] as { leaves: Uint8Array }).leaves),
      leavesOf(bytesOf(100_000), 'sha256'),
      `${rule}: leaves`,
    );
  }
  closeSync(directory);
});

pooled('a file that is cut off while it is measured', { threadsMax: 1 }, async (t, f) => {
  const [large, small] = [f.work('large', 64 * LARGE), f.work('small', bytesOf(BLOCK))];
  const measured = f.pool.measure([large, small]);
  await f.pool.measure([small]); // by then the large one has begun
  truncateSync(f.path('large'), BLOCK);
  const [cut, whole] = await measured;
  t.match(cut, { errno: EIO, message: /^the data ends at \d+ of 137438953472 bytes$/ });
  t.match(whole, { digest: Uint8Array }, 'the next one is measured');
});

pooled('a thread that dies', { threadsMax: 1 }, async (t, f) => {
  const [large, small] = [f.work('large', LARGE), f.work('small', bytesOf(BLOCK))];
  const [wanted] = await f.pool.measure([small]);
  const { pool } = f.pool as unknown as { pool: { threads: { worker: { terminate(): Promise<number> } }[] } };
  const fails = (): Promise<unknown> =>
    t.rejects(f.pool.measure([large]), { name: 'EIO', errno: EIO, message: /died: exit status/ }, 'its work fails');
  const failures = [fails(), fails()];
  await pool.threads[0]?.worker.terminate();
  await Promise.all(failures);
  t.equal(digestOf((await f.pool.measure([small]))[0]), digestOf(wanted), 'another one takes its place');

  const open = [fails(), fails()];
  await f.pool.close();
  await Promise.all(open);
  t.equal(digestOf((await f.pool.measure([small]))[0]), digestOf(wanted), 'after the end, too');
});

pooled('what has nothing to measure can end', {}, async (t, f) => {
  f.work('file', bytesOf(10_000));
  const program = `
    import { openSync } from 'node:fs';
    import { MeasurePool } from '${new URL('../../src/verity/measure-pool.js', import.meta.url)}';
    const pool = new MeasurePool(2);
    const work = { fd: openSync(process.argv[2], 'r'), sizeBytes: 10_000, algorithm: 'sha256', withLeaves: true };
    const outcomes = await Promise.all([work, work, work].map(work => pool.measure([work])));
    const controller = new AbortController();
    const large = pool.measure(Array(100_000).fill(work), controller.signal).catch(error => error.name);
    controller.abort();
    console.log(outcomes.length, await large);
    const last = await pool.measure([work]);
    console.log(Buffer.from(last[0].digest).toString('hex'));`;
  writeFileSync(f.path('program.mjs'), program);
  const args = [f.path('program.mjs'), f.path('file')];
  const child = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 20_000 });
  const [{ digest }] = (await f.pool.measure([f.work('file', bytesOf(10_000))])) as [{ digest: Uint8Array }];
  t.strictSame([child.status, child.stdout], [0, `3 EINTR\n${hex(digest)}\n`], 'it ends by itself, and not before');
});
pooled('measureEach', { threadsMax: 2 }, async (t, f) => {
  const paths = Array.from({ length: 700 }, (_, i) => {
    const path = f.path(`f${i}`);
    writeFileSync(path, bytesOf(i % 7 === 0 ? 20_000 : i));
    return path;
  });
  writeFileSync(f.path('large'), '');
  truncateSync(f.path('large'), 1 << 27);
  let [open, most] = [0, 0];
  function* items(): Generator<{ path: string; work: Work }> {
    for (const path of [f.path('large'), ...paths]) {
      most = Math.max(most, ++open);
      const fd = openSync(path, 'r');
      yield { path, work: { fd, sizeBytes: fstatSync(fd).size, algorithm: 'sha256', withLeaves: false } };
    }
  }
  const found = new Map<string, string>();
  const order: string[] = [];
  await f.pool.measureEach(items(), ({ path, work }, outcome) => {
    closeSync(work.fd);
    open--;
    order.push(path);
    found.set(path, digestOf(outcome));
  });
  t.equal(order.length, 701, 'each is settled once');
  const wanted = fsverityDigests(paths);
  t.strictSame(
    paths.map(path => found.get(path)),
    wanted,
    'with its own digest',
  );
  t.ok(most <= 300, `only some are open at a time: ${most}`);
  t.ok(order.indexOf(f.path('large')) > 100, 'a large one that came first holds nobody up');

  const stop = new AbortController();
  stop.abort();
  const errors = new Set<unknown>();
  await f.pool.measureEach(
    items(),
    ({ work }, outcome) => {
      closeSync(work.fd);
      errors.add('errno' in outcome && outcome.errno);
    },
    stop.signal,
  );
  t.strictSame([...errors], [EINTR], 'after a signal each is settled with EINTR');
});
t.end();
