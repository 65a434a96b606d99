import { readSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { native } from '../../../src/sys/native.ts';
import { EPOLLIN, EPOLLOUT, Readiness } from '../../../src/sys/sockets/readiness.ts';
import { SOCK_STREAM } from '../../../src/sys/sockets/types.ts';

const EPOLLHUP = 0x10;

t.test('many descriptors beside timers', async t => {
  const readiness = new Readiness();
  const pairs = Array.from({ length: 200 }, () => {
    const pair = new Int32Array(2);
    native.socketPair(pair, SOCK_STREAM);
    return [...pair] as [number, number];
  });
  const seen = new Map<number, string>();
  for (const [mine] of pairs)
    readiness.add(mine, EPOLLIN, events => {
      const piece = Buffer.alloc(10);
      const length = readSync(mine, piece);
      seen.set(mine, (seen.get(mine) ?? '') + piece.toString('latin1', 0, length));
      if (events & EPOLLHUP) readiness.remove(mine);
    });
  readiness.run();
  for (const round of ['a', 'b']) {
    for (const [, theirs] of pairs) writeSync(theirs, round);
    const isAll = (): boolean => seen.size === pairs.length && [...seen.values()].every(text => text.endsWith(round));
    for (let waited = 0; waited < 5000 && !isAll(); waited += 10) await sleep(10); // timers go on meanwhile
  }
  t.same(new Set(seen.values()), new Set(['ab']));
  t.equal(seen.size, pairs.length);

  const [[first, end]] = pairs as [[number, number]];
  const writable = new Promise<number>(done => {
    readiness.change(first, EPOLLOUT);
    readiness.remove(first);
    readiness.add(first, EPOLLOUT, events => {
      readiness.remove(first);
      done(events);
    });
  });
  t.equal(await writable, EPOLLOUT, 'other events');
  native.close(end);
  await sleep(20);
  const before = process.cpuUsage();
  await sleep(200);
  const { user, system } = process.cpuUsage(before);
  t.ok(user + system < 100_000, 'waiting takes no time of the CPU');
  readiness.stop();
});
t.end();
