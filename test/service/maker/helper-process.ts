/** Proves src/service/maker/helper-process.ts: a task that takes too long, that nobody waits for, or whose process dies. */
import { closeSync, ftruncateSync, openSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { NOBODY } from '../../../src/service/helper/orders.ts';
import { runTask } from '../../../src/service/maker/helper-process.ts';
import { Readiness } from '../../../src/sys/sockets/readiness.ts';
import { scratch } from '../../fixtures/layers.ts';
import { soon } from '../../fixtures/mounts/foreground.ts';
import { helpersOf } from '../../fixtures/service/served.ts';
import { withoutRoot } from '../../fixtures/skips.ts';

t.test('tasks that are not done', { skip: withoutRoot }, async t => {
  const file = openSync(join(scratch(t), 'long'), 'w+');
  ftruncateSync(file, 2 ** 33); // measuring it takes seconds
  const readiness = new Readiness();
  readiness.run();
  t.teardown(() => {
    readiness.stop();
    closeSync(file);
  });
  let ends = 0;
  const run = (timeoutMs: number, signal: AbortSignal) => {
    const onEnd = (): void => {
      ends++;
    };
    return runTask(readiness, { kind: 'measure', as: NOBODY, algorithm: 'sha256' }, [file], {
      timeoutMs,
      signal,
      onEnd,
    });
  };
  const never = new AbortController().signal;
  await t.rejects(run(300, never), { name: 'ETIMEDOUT', message: 'it was not done in 0.3 s' });
  await t.rejects(run(10_000, AbortSignal.abort()), { name: 'ECONNABORTED' }, 'nobody waits from the start');
  await t.rejects(run(10_000, AbortSignal.timeout(300)), { name: 'ECONNABORTED' }, 'nobody waits any more');
  t.ok(await soon(() => ends === 3), 'all processes end, and that is told once for each');
  const killed = run(10_000, never);
  const helpers = (): number[] => helpersOf({ pid: process.pid });
  t.ok(await soon(() => helpers().length === 1));
  for (const pid of helpers()) process.kill(pid, 'SIGKILL');
  await t.rejects(killed, { name: 'EIO', message: /its process has died/ });
  t.equal(ends, 4);
  t.same(helpers(), [], 'none is left');
});
t.end();
