/** Proves src/sys/event-loop.ts: nothing of the event loop waits while a thread sleeps beside it. */
import { writeSync } from 'node:fs';
import { MessageChannel } from 'node:worker_threads';
import t from 'tap';
import { betweenEvents, sleeperOn } from '../../src/sys/event-loop.ts';
import { native } from '../../src/sys/native.ts';

/** Longer than any of these tests may take. */
const LONG_MS = 60_000;

/** The end of a socket that nobody writes to, and the other one. */
const pair = new Int32Array(2);
native.socketPair(pair);
const [silent = -1, other = -1] = pair;
const sleep = sleeperOn(silent);

/** Sleeps between events until `happen` has been told. @returns how often it slept */
function until(begin: (happened: () => void) => void): Promise<number> {
  return new Promise(resolve => {
    let [sleeps, isOver] = [0, false];
    begin(() => {
      isOver = true;
    });
    betweenEvents(() => {
      if (isOver) resolve(sleeps);
      else sleep(LONG_MS);
      sleeps++;
      return !isOver;
    });
  });
}

const events: readonly (readonly [what: string, begin: (happened: () => void) => void])[] = [
  ['a promise', happened => void Promise.resolve().then(happened)],
  ['an immediate', happened => setImmediate(happened)],
  ['a timer', happened => setTimeout(happened, 20)],
  ['timers, one after the other', happened => setTimeout(() => setTimeout(() => setTimeout(happened, 5), 5), 5)],
  [
    'a signal',
    happened => {
      process.once('SIGUSR2', happened);
      process.kill(process.pid, 'SIGUSR2');
    },
  ],
  [
    'messages of two ports',
    happened => {
      const [one, two] = [new MessageChannel(), new MessageChannel()];
      let count = 0;
      for (const { port1 } of [one, two]) {
        port1.on('message', () => {
          port1.close();
          if (++count === 2) happened();
        });
      }
      setTimeout(() => {
        for (const { port2 } of [one, two]) port2.postMessage(0);
      }, 5);
    },
  ],
];
for (const [what, begin] of events)
  t.test(what, { timeout: LONG_MS / 2 }, async t => {
    t.ok((await until(begin)) < 200, 'it sleeps, and does not ask again and again');
  });

t.test('the descriptor', async t => {
  await new Promise<void>(resolve => {
    betweenEvents(() => {
      t.notOk(sleep(7), 'nothing, in the time that was given');
      writeSync(other, 'x');
      t.ok(sleep(-1), 'something to read');
      resolve();
      return false;
    });
  });
  for (const fd of pair) native.close(fd);
});
t.end();
