/** Proves `lowerdata explain` and `lowerdata check` as a shell sees them: text, JSON and exit statuses. */
import t from 'tap';
import { dir, file, meta } from '../fixtures/fake-layer.ts';
import { plant, scratch } from '../fixtures/layers.ts';
import { runCommand } from '../fixtures/run-command.ts';
import { withoutRoot } from '../fixtures/skips.ts';

const digest = 'de0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef';

t.test('explain and check', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  plant(
    home,
    dir({
      A: dir({
        foo: file('12345', { metacopy: '', redirect: '/1e/data' }),
        bar: file('12345', { metacopy: '', redirect: '//1e/data' }),
        long: meta({ redirect: `//${digest}` }),
      }),
      B: dir({ '1e': dir() }),
      C: dir({ '1e': dir({ data: file('12345') }), [digest]: file('') }),
      clean: dir({ plain: file() }),
    }),
  );
  const stack = `A:B::C`;
  const lowerdata = (...args: string[]) => runCommand(args, { directory: home });

  const text = lowerdata('explain', stack, '/foo', '/bar', '/long');
  t.equal(text.status, 0, 'a path that cannot be had is explained as well');
  t.equal(
    text.stdout.split('\n').slice(0, 12).join('\n'),
    `/foo
  foo
    A is searched for foo
      foo: regular file
        M1    a metacopy file: its data is elsewhere
        R2    a redirect: /1e/data: the layers below are searched for /1e/data
    B is searched for /1e/data
      1e: directory
        R7    passing a directory or a metacopy file forgets an absolute
              redirect
      data: nothing
        L8    a metacopy file without data`,
    'the walk, for people',
  );
  t.match(text.stdout, /Linux 6\.18: EINVAL\n {4}P-D1: /, 'what the kernel does otherwise');
  t.ok(
    text.stdout.split('\n').every(line => Buffer.from(line, 'latin1').toString().length <= 80),
    'no line is longer than a terminal is wide',
  );
  t.notMatch(text.stdout, digest, 'for which long numbers are cut');
  t.match(lowerdata('explain', '--json', stack, '/long').stdout, digest, 'but not in JSON');
  const lines = lowerdata('explain', '--json', stack, '/foo', '/bar').stdout.trim().split('\n');
  t.match(
    lines.map(line => JSON.parse(line)),
    [
      { path: '/foo', lookups: [{ outcome: 'EIO' }] },
      { path: '/bar', data: { outcome: 'layer C: /1e/data' } },
    ],
    'an object for each path',
  );
  t.equal(lowerdata('explain', 'none', '/').status, 1, 'a stack that cannot be opened');
  const older = lowerdata('explain', '--kernel=6.1', stack, '/foo');
  t.match(older.stdout, /Linux 6\.1: EINVAL\n {4}S2: data-only layers: the mount is refused/, 'an older kernel');
  t.match(JSON.parse(lowerdata('check', '--json', '--kernel=6.1', stack).stdout.split('\n')[0] ?? ''), {
    code: 'refused',
  });
  for (const [command, status] of [
    ['explain', 1],
    ['check', 2],
  ] as const) {
    const unknown = lowerdata(command, '--kernel=5.10', stack, ...(command === 'explain' ? ['/foo'] : []));
    t.match(unknown, { status, stdout: '', stderr: /5\.10: not recorded; known are 6\.1, 6\.12, 6\.18/ }, command);
  }
  const made = lowerdata('explain', '--reproduce', stack, '/foo');
  t.match(made, { status: 0, stdout: /^#!\/bin\/sh\n(.*\n)*if mount -t overlay/, stderr: '' }, 'a script');
  for (const [what, args] of [
    ['two paths', [stack, '/foo', '/bar']],
    ['--json', ['--json', stack, '/foo']],
  ] as const)
    t.match(lowerdata('explain', '--reproduce', ...args), { status: 1, stdout: '', stderr: /takes one path/ }, what);

  const check = lowerdata('check', '--json', stack);
  t.equal(check.status, 1, 'check: 1 where something is found');
  t.match(
    check.stdout
      .trim()
      .split('\n')
      .map(line => JSON.parse(line))
      .sort((a, b) => (a.path < b.path ? -1 : 1)),
    [
      { path: '/bar', code: 'needs-lowerdata', help: /relink/ },
      { path: '/foo', code: 'hidden', layer: 'B', message: /R7/, help: /redirects=data-only/ },
      { path: '/long', code: 'needs-lowerdata' },
    ],
    'each with what it is and what helps',
  );
  t.match(lowerdata('check', stack).stdout, /^\/foo: hidden by B: .*; mount with redirects=data-only/m, 'for people');
  t.same(lowerdata('check', 'clean'), { status: 0, stdout: '', stderr: '' }, 'check: 0 and silence where nothing is');
  t.equal(lowerdata('check', 'none').status, 2, 'check: 2 where it cannot be done');
});
t.end();
