import { spawnSync } from 'node:child_process';
import t from 'tap';
import { ENOSYS, ESRCH } from '../../src/sys/errno.ts';
import { onEveryThread, onThread } from '../../src/sys/processes/threads.ts';

/** A process with a thread that waits, one that is busy, and those of Node.js, which does something to all of them. */
const script = (act: string): string => `
  import { promises, readdirSync, readFileSync } from 'node:fs';
  import { Worker } from 'node:worker_threads';
  import { native } from '${new URL('../../src/sys/native.js', import.meta.url)}';
  import { setCapabilities, refuseNewPrivileges } from '${new URL('../../src/sys/security/privileges.js', import.meta.url)}';
  import { onEveryThread } from '${new URL('../../src/sys/processes/threads.js', import.meta.url)}';
  const ready = new Int32Array(new SharedArrayBuffer(8));
  const begin = 'const { workerData: ready } = require("worker_threads"); Atomics.add(ready, 0, 1); ';
  for (const rest of ['Atomics.wait(ready, 1, 0)', 'for (;;);'])
    new Worker(begin + rest, { eval: true, execArgv: [], workerData: ready });
  await promises.stat('/'); // starts threads, too
  while (Atomics.load(ready, 0) < 2) await promises.stat('/');
  const threads = () => readdirSync('/proc/self/task');
  const all = threads();
  const fields = name => [...new Set(threads().map(thread =>
    new RegExp('^' + name + ':\\\\s*(\\\\S+)$', 'm').exec(readFileSync('/proc/self/task/' + thread + '/status', 'latin1'))[1]))].sort();
  const before = fields('NoNewPrivs').join();
  const result = ${act};
  console.log([before, result, all.every(thread => threads().includes(thread)), fields('NoNewPrivs').join()].join(' '));
  native.exit(0);`;

for (const [rule, act, want] of [
  ['every thread', 'onEveryThread(refuseNewPrivileges)', '0 0 true 1'],
  ['the calling thread alone', 'refuseNewPrivileges(0)', '0 0 true 0,1'],
  ['the calling thread by its number', 'refuseNewPrivileges(process.pid)', '0 0 true 0,1'],
  ['up to the first error', 'onEveryThread(thread => thread === process.pid ? -1 : 0)', '0 -1 true 0'],
] as const)
  t.test(rule, async t => {
    const args = ['--input-type=module', '-e', script(act)];
    const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 60_000 });
    t.equal(stdout.trim(), want, stderr);
  });

t.equal(onThread(2 ** 30, 'prctl'), -ESRCH, 'a thread that is not there');
t.equal(
  onEveryThread(() => -ESRCH),
  0,
  'is no error, because it has ended',
);
t.test('a machine whose numbers are not known', async t => {
  const { arch } = process;
  t.teardown(() => Object.defineProperty(process, 'arch', { value: arch }));
  Object.defineProperty(process, 'arch', { value: 's390x' });
  t.equal(onThread(0, 'prctl'), -ENOSYS);
});
t.end();
