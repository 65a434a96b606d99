/** Proves src/driver/measurer.ts. */
import { closeSync, fstatSync, openSync, readdirSync, readlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mock } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { Measurer } from '../../src/driver/measurer.ts';
import type { Unique } from '../../src/fuse/filesystem.ts';
import { EINTR, EIO, ErrnoError, errnoName } from '../../src/sys/errno.ts';
import { MeasurePool } from '../../src/verity/measure-pool.ts';
import type { Outcome, Work } from '../../src/verity/measure-worker.ts';
import { fsverityDigest } from '../fixtures/images/verity.ts';
import { scratch } from '../fixtures/layers.ts';
import { descriptors } from '../fixtures/native.ts';

/** A measurement that ends when the test says so. */
interface Measurement {
  readonly work: Work;
  readonly isAborted: boolean;
  end(outcome: Outcome): void;
  fail(errno: number): void;
}

class FakePool extends MeasurePool {
  readonly begun: Measurement[] = [];

  override measure([work]: readonly Work[], signal?: AbortSignal): Promise<readonly Outcome[]> {
    return new Promise((resolve, reject) => {
      this.begun.push({
        work: work as Work,
        get isAborted() {
          return signal?.aborted === true;
        },
        end: outcome => resolve([outcome]),
        fail: errno => reject(new ErrnoError(errno, 'the pool failed')),
      });
    });
  }
}

const outcome = (text: string): Outcome => ({ digest: Buffer.from(text) });
const outcomes: Readonly<Record<string, Outcome>> = {
  done: outcome('done'),
  unreadable: { errno: EIO, message: 'the data ends' },
};

class Fixture {
  readonly fd = openSync('/dev/null', 'r');
  readonly measurer: Measurer<string>;

  constructor(pool: MeasurePool) {
    this.measurer = new Measurer(pool);
  }

  begin(key: string, unique: string, { fd = this.fd, sizeBytes = 0 } = {}): void {
    const work: Work = { fd, sizeBytes, algorithm: 'sha256', withLeaves: false };
    const answer = (result: () => { digest: Uint8Array }): string => {
      fstatSync(work.fd); // it must not be closed before
      return Buffer.from(result().digest).toString('latin1');
    };
    this.measurer.begin(key, { unique: unique as Unique, work, answer });
  }

  /** What can be answered now, by request; an error by its name. */
  settled(): string[] {
    const found: string[] = [];
    for (let one = this.measurer.settled(); one; one = this.measurer.settled()) {
      let answer: string;
      try {
        answer = one.answer();
      } catch (error) {
        answer = errnoName((error as ErrnoError).errno);
      }
      found.push(`${one.unique}: ${answer}`);
    }
    return found;
  }

  close(): void {
    closeSync(this.fd);
  }
}

/** Until what was said on one side is known on the other. */
async function delivered(): Promise<void> {
  for (let i = 0; i < 20; i++) await turn();
}

/**
 * A script: `1 a` is a request 1 for the data of key a, `!1` its interrupt, `+999` so many milliseconds, `=1 done` an
 * outcome of the measurement that began first, `settle` takes what is settled, whatever else what a check expects.
 */
const scripts: readonly (readonly [rule: string, script: string, answers: string[], measurements: number])[] = [
  ['one request', '1 a, =1 done', ['1: done'], 1],
  ['two requests of one key share a measurement', '1 a, 2 a, =1 done', ['1: done', '2: done'], 1],
  ['so does one that comes later', '1 a, wait, 2 a, wait, =1 done', ['1: done', '2: done'], 1],
  ['two keys do not', '1 a, 2 b, =2 done, wait, =1 done', ['2: done', '1: done'], 2],
  ['what is done is not kept', '1 a, =1 done, settle, 2 a, =2 done', ['1: done', '2: done'], 2],
  ['data that cannot be read is so for all', '1 a, 2 a, =1 unreadable', ['1: EIO', '2: EIO'], 1],
  ['so is a thread that died', '1 a, 2 a, =1 died', ['1: EIO', '2: EIO'], 1],
  ['after an error it is tried again', '1 a, =1 unreadable, settle, 2 a, =2 done', ['1: EIO', '2: done'], 2],
  ['an interrupt is answered at once', '1 a, !1', ['1: EINTR'], 1],
  ['and leaves the other one', '1 a, 2 a, !1, wait, +9999, =1 done', ['1: EINTR', '2: done'], 1],
  ['be it the first or not', '1 a, 2 a, !2, wait, +9999, =1 done', ['2: EINTR', '1: done'], 1],
  ['an interrupt of nobody is nothing', '1 a, !7, =1 done', ['1: done'], 1],
  ['nor is a second one', '1 a, !1, !1', ['1: EINTR'], 1],
  ['nor one after the answer', '1 a, =1 done, settle, !1', ['1: done'], 1],
  ['nor one before the answer is taken', '1 a, =1 done, !1', ['1: done'], 1],
  ['what nobody waits for goes on for a second', '1 a, !1, wait, +999, going', ['1: EINTR'], 1],
  ['and is dropped then', '1 a, !1, wait, +1000, dropped', ['1: EINTR'], 1],
  [
    'somebody who comes within that second keeps it',
    '1 a, !1, wait, +999, 2 a, wait, +9999, going, =1 done',
    ['1: EINTR', '2: done'],
    1,
  ],
  ['at once, too', '1 a, !1, 2 a, wait, +9999, going, =1 done', ['1: EINTR', '2: done'], 1],
  [
    'each interrupt begins another second',
    '1 a, !1, wait, +999, 2 a, wait, +9999, !2, wait, +999, going, +1, dropped',
    ['1: EINTR', '2: EINTR'],
    1,
  ],
  [
    'somebody who comes when it was dropped begins anew',
    '1 a, !1, wait, +1000, =1 dropped, settle, 2 a, =2 done',
    ['1: EINTR', '2: done'],
    2,
  ],
  [
    'so do those who come while it is being dropped',
    '1 a, !1, wait, +1000, dropped, 2 a, 3 a, =1 dropped, settle, =2 done',
    ['1: EINTR', '2: done', '3: done'],
    2,
  ],
  ['unless it was done nevertheless', '1 a, !1, wait, +1000, dropped, 2 a, =1 done', ['1: EINTR', '2: done'], 1],
  [
    'and they can be interrupted',
    '1 a, !1, wait, +1000, 2 a, =1 dropped, settle, !2, wait, +1000, =2 dropped, 3 a, settle, =3 done',
    ['1: EINTR', '2: EINTR', '3: done'],
    3,
  ],
  [
    'the result of what nobody waits for is dropped',
    '1 a, !1, =1 done, settle, 2 a, =2 done',
    ['1: EINTR', '2: done'],
    2,
  ],
];

t.test('requests and measurements', async t => {
  for (const [rule, script, answers, measurements] of scripts) {
    const before = descriptors();
    const pool = new FakePool();
    const f = new Fixture(pool);
    mock.timers.enable({ apis: ['setTimeout'] });
    try {
      t.strictSame(await play(t, rule, script, f, pool), answers, rule);
    } finally {
      mock.timers.reset();
    }
    t.equal(pool.begun.length, measurements, `${rule}: measurements`);
    for (const one of pool.begun) {
      t.not(one.work.fd, f.fd, `${rule}: a descriptor of its own`);
      one.end(outcome('late'));
    }
    await delivered();
    t.strictSame(f.settled(), [], `${rule}: nothing is answered twice`);
    f.close();
    t.equal(descriptors(), before, `${rule}: no descriptor is left`);
  }
});

async function play(t: Test, rule: string, script: string, f: Fixture, pool: FakePool): Promise<string[]> {
  const answers: string[] = [];
  for (const step of script.split(', ')) {
    const [what = '', how = ''] = step.split(' ');
    const nth = pool.begun[Number(what.slice(1)) - 1];
    if (what === 'wait') await delivered();
    else if (what === 'settle') answers.push(...f.settled());
    else if (what === 'going') t.notOk(pool.begun.at(-1)?.isAborted, `${rule}: it goes on`);
    else if (what === 'dropped') t.ok(pool.begun.at(-1)?.isAborted, `${rule}: it is dropped`);
    else if (what.startsWith('!')) f.measurer.interrupt(what.slice(1) as Unique);
    else if (what.startsWith('+')) mock.timers.tick(Number(what.slice(1)));
    else if (what.startsWith('=')) {
      await delivered();
      const measurement = nth ?? pool.begun[Number(what.slice(1)) - 1];
      const known = outcomes[how];
      if (known) measurement?.end(known);
      else measurement?.fail(how === 'dropped' ? EINTR : EIO);
      await delivered();
    } else {
      f.begin(how, what);
    }
  }
  await delivered();
  return [...answers, ...f.settled()];
}

t.test('without descriptors', async t => {
  const before = descriptors();
  const pool = new FakePool();
  const f = new Fixture(pool);
  t.throws(() => f.begin('a', '1', { fd: 999_999 }), { name: 'EBADF' }, 'what cannot be begun says so');
  t.strictSame(f.settled(), []);
  f.begin('a', '2');
  await delivered();
  t.equal(pool.begun.length, 1, 'and is not waited for by the next one');

  mock.timers.enable({ apis: ['setTimeout'] });
  f.measurer.interrupt('2' as Unique);
  await delivered();
  mock.timers.tick(1000);
  mock.timers.reset();
  const last = openSync('/dev/null', 'r');
  f.begin('a', '3', { fd: last });
  f.begin('a', '4');
  closeSync(last); // stands for a table of descriptors that is full
  pool.begun[0]?.fail(EINTR);
  await delivered();
  const answers: string[] = [];
  t.doesNotThrow(() => answers.push(...f.settled()), 'what cannot begin anew is no end of all');
  t.strictSame(answers, ['2: EINTR', '3: EBADF', '4: EBADF'], 'but an error for those who wait');
  f.begin('a', '5');
  await delivered();
  pool.begun[1]?.end(outcome('done'));
  await delivered();
  t.strictSame(f.settled(), ['5: done'], 'after which all goes on');
  f.close();
  t.equal(descriptors(), before);
});

t.test('with threads', { timeout: 60_000 }, async t => {
  const home = scratch(t);
  const [small, large] = [join(home, 'small'), join(home, 'large')];
  writeFileSync(small, 'x'.repeat(300_000));
  writeFileSync(large, '');
  truncateSync(large, 2 ** 36);
  const before = descriptors();
  const pool = new MeasurePool(1);
  const f = new Fixture(pool);
  const [smallFd, largeFd] = [openSync(small, 'r'), openSync(large, 'r')];
  f.begin('large', '1', { fd: largeFd, sizeBytes: 2 ** 36 });
  f.begin('small', '2', { fd: smallFd, sizeBytes: 300_000 });
  f.begin('small', '3', { fd: smallFd, sizeBytes: 300_000 });
  const found: string[] = [];
  while (found.length < 2) {
    await turn();
    found.push(...f.settled());
  }
  const digest = Buffer.from(fsverityDigest(small), 'hex').toString('latin1');
  t.strictSame(found, [`2: ${digest}`, `3: ${digest}`], 'the digest is that of fsverity');
  f.measurer.interrupt('1' as Unique);
  t.strictSame(f.settled(), ['1: EINTR']);
  closeSync(largeFd);
  while (descriptorsOf(large) > 0) await turn();
  t.pass('a file that nobody waits for is closed');
  await pool.close();
  closeSync(smallFd);
  f.close();
  t.equal(descriptors(), before, 'no descriptor is left');
});

/** How many descriptors of this process are of a file. */
function descriptorsOf(path: string): number {
  return readdirSync('/proc/self/fd').filter(fd => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path;
    } catch {
      return false; // the one that lists them
    }
  }).length;
}
t.end();
