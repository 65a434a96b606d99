/** Proves src/mount/log-limit.ts, and that users of a mount cannot flood the log of its daemon. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { LimitedLog } from '../../src/mount/log-limit.ts';
import { ForegroundMount, soon } from '../fixtures/mounts/foreground.ts';
import { command } from '../fixtures/mounts/mounted.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse } from '../fixtures/skips.ts';

const line = (nodeid: number, object: string): string => `OPEN nodeid ${nodeid}: EIO: ${object}: wrong digest`;

for (const [rule, lines, want] of [
  ['a line', [line(2, 'a')], [line(2, 'a')]],
  ['different lines', [line(2, 'a'), line(3, 'b')], [line(2, 'a'), line(3, 'b')]],
  [
    'a line that is repeated',
    Array(1235).fill(line(2, 'a')),
    [line(2, 'a'), 'OPEN: EIO: a: wrong digest (1,234 more like this)'],
  ],
  [
    'a line that differs in the nodeid alone',
    [line(2, 'a'), line(3, 'a')],
    [line(2, 'a'), 'OPEN: EIO: a: wrong digest (1 more like this)'],
  ],
  [
    'another line in the middle of a flood',
    [...Array(1000).fill(line(2, 'a')), line(9, 'b'), ...Array(1000).fill(line(2, 'a'))],
    [line(2, 'a'), line(9, 'b'), 'OPEN: EIO: a: wrong digest (1,999 more like this)'],
  ],
  [
    'more different lines than there may be',
    ['1', '2', '3', '4', '5', '6', '2'],
    ['1', '2', '3', '4', '2 (1 more like this)', '2 more lines, of other kinds'],
  ],
] as const)
  t.test(`${rule} is logged`, async t => {
    const logged: string[] = [];
    const log = new LimitedLog(line => logged.push(line), { burst: 4, perSecond: 0, summaryMs: 60_000 });
    for (const line of lines) log.say(line);
    log.summarize();
    t.strictSame(logged, want);
    log.summarize();
    t.strictSame(logged, want, 'once');
  });

t.test('lines are told of in time, and may come again', async t => {
  const logged: string[] = [];
  const log = new LimitedLog(line => logged.push(line), { burst: 4, perSecond: 1000, summaryMs: 20 });
  for (let i = 0; i < 3; i++) log.say('a');
  t.ok(await soon(() => logged.length === 2));
  t.equal(logged[1], 'a (2 more like this)');
  await sleep(100);
  log.say('a');
  t.strictSame(logged.slice(2), ['a'], 'when it had stopped for a while');
});

/** Opens the first file as often as it can for a second, and asks for xattrs that have no name. */
const flood = `
import os, sys, time
end = time.time() + 1; n = 0
while time.time() < end:
    for ask in (lambda: os.open(sys.argv[1], os.O_RDONLY), lambda: os.getxattr(sys.argv[2], 'user.')):
        try: ask(); sys.exit('it could be done')
        except OSError as e: n += 1; errno = e.errno
print(n > 100, errno)`;

t.test('a user who opens a wrong object again and again', { skip: withoutFuse, timeout: 60_000 }, t =>
  withScratchAsync(async home => {
    const [tree, objects, mnt] = ['tree', 'objects', 'mnt'].map(name => join(home, name)) as [string, string, string];
    mkdirSync(tree);
    chmodSync(home, 0o755);
    writeFileSync(join(tree, 'bad'), Buffer.alloc(5000, 'x'));
    command('mkfs', `--digest-store=${objects}`, tree, join(home, 'image'));
    for (const path of readdirSync(objects, { recursive: true, encoding: 'utf8' })) {
      if (!/\/[0-9a-f]{62}$/.test(path)) continue;
      chmodSync(join(objects, path), 0o644);
      writeFileSync(join(objects, path), Buffer.alloc(5000, 'y'));
    }
    const mount = await ForegroundMount.make(`${join(home, 'image')}::${objects}`, mnt, 'allow_other');
    try {
      await soon(() => mount.log.includes(': metadata '));
      const before = mount.log.length;
      const args = ['-c', flood, join(mnt, 'bad'), mnt];
      const { stdout, stderr } = spawnSync('python3', args, { uid: 65534, gid: 65534, encoding: 'utf8' });
      t.equal(stdout, 'True 22\n', stderr);
      mount.signal('SIGTERM');
      await mount.ended();
      const lines = mount.log.slice(before).trim().split('\n');
      t.equal(lines.length, 2, 'one line, and how often it came');
      t.match(lines[0], /^lowerdata: OPEN nodeid \d+: /);
      t.match(lines[1], /\(\d[\d,]* more like this\)$/);
    } finally {
      await mount.clear();
    }
  }),
);
t.end();
