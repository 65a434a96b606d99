/** Proves the varlink server with a client in Python. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { descriptors } from '../../fixtures/native.ts';
import { about, PythonClient, serveShop, until } from '../../fixtures/varlink/service.ts';

const S = 'org.varlink.service';
const X = 'org.example.Shop';
const home = mkdtempSync('/tmp/varlink-files-');
const files = ['one', 'two', 'three'].map(name => join(home, name));
for (const file of files) writeFileSync(file, `contents of ${file}`);
t.teardown(() => rmSync(home, { recursive: true }));
const [one = '', two = '', three = ''] = files;
const contents = (...paths: string[]): string[] => paths.map(path => `contents of ${path}`);

t.test('calls and their replies', async t => {
  const service = serveShop();
  const client = new PythonClient(service.path);
  await client.do({ do: 'connect' });
  await client.call(`${S}.GetInfo`, {});
  const before = descriptors();
  const fault = (errno: number, errnoName: string): unknown => [
    { error: 'io.systemd.System', parameters: { origin: 'linux', errno, errnoName } },
    [],
  ];
  const invalid = (parameter: string): unknown => [{ error: `${S}.InvalidParameter`, parameters: { parameter } }, []];
  const error = (name: string, parameters: object): unknown => [{ error: `${S}.${name}`, parameters }, []];
  const uid = process.getuid?.();
  for (const [rule, method, parameters, fds, want] of [
    ['who serves', `${S}.GetInfo`, {}, [], [{ parameters: { ...about, interfaces: [X, S] } }, []]],
    ['no parameters', `${S}.GetInfo`, null, [], [{ parameters: { ...about, interfaces: [X, S] } }, []]],
    [
      'an interface',
      `${S}.GetInterfaceDescription`,
      { interface: 'a.b' },
      [],
      error('InterfaceNotFound', { interface: 'a.b' }),
    ],
    ['another interface', 'org.example.Inn.Echo', {}, [], error('InterfaceNotFound', { interface: 'org.example.Inn' })],
    ['a word', 'Echo', {}, [], error('InterfaceNotFound', { interface: '' })],
    ['another method', `${X}.Sell`, {}, [], error('MethodNotFound', { method: `${X}.Sell` })],
    ['a name of JavaScript', `${X}.constructor`, {}, [], error('MethodNotFound', { method: `${X}.constructor` })],
    ['a method without code', `${X}.Later`, {}, [], error('MethodNotImplemented', { method: `${X}.Later` })],
    ['several replies to who wants one', `${X}.Count`, { to: 3 }, [], error('ExpectedMore', {})],
    [
      'an error of the interface',
      `${X}.Fail`,
      { how: 'known' },
      [],
      [{ error: `${X}.SoldOut`, parameters: { what: 'tea' } }, []],
    ],
    ['an unexpected error', `${X}.Fail`, { how: 'errno' }, [], fault(28, 'ENOSPC')],
    ['a mistake of the service', `${X}.Fail`, { how: 'unknown' }, [], fault(5, 'EIO')],
    ['a descriptor', `${X}.Read`, { first: 0 }, [one], [{ parameters: { contents: contents(one), user: uid } }, []]],
    [
      'descriptors in another order',
      `${X}.Read`,
      { first: 2, second: 0, others: [1] },
      files,
      [{ parameters: { contents: contents(three, one, two), user: uid } }, []],
    ],
    [
      'more descriptors than are named',
      `${X}.Read`,
      { first: 1 },
      files,
      [{ parameters: { contents: contents(two), user: uid } }, []],
    ],
    ['no descriptor', `${X}.Read`, { first: 0 }, [], invalid('first')],
    ['a descriptor too few', `${X}.Read`, { first: 0, second: 1 }, [one], invalid('second')],
    ['the same descriptor twice', `${X}.Read`, { first: 0, others: [0] }, [one], invalid('others.0')],
    ['a negative place', `${X}.Read`, { first: -1 }, [one], invalid('first')],
    ['a place with a fraction', `${X}.Read`, { first: 0.5 }, [one], invalid('first')],
    [
      'descriptors of the service',
      `${X}.Open`,
      { paths: [two, one] },
      [],
      [{ parameters: { files: [0, 1] } }, contents(two, one)],
    ],
  ] as const)
    t.strictSame(await client.call(method, parameters, { fds: [...fds] }), want, rule);
  t.match(service.doings.log, [/ENOSPC: no room\\x0afor it/, /a mistake/], 'the log tells what was unexpected');
  for (let i = 0; i < 150; i++)
    await client.do({ do: 'send', value: { method: `${X}.Read`, parameters: { first: 0 } }, fds: [one] });
  for (let i = 0; i < 150; i++)
    t.match(await client.do({ do: 'receive' }), [{ parameters: {} }, []], 'one of many calls at once');
  await client.do({ do: 'send', value: { method: `${X}.Count`, parameters: { to: 3 }, more: true } });
  for (const number of [1, 2, 3])
    t.strictSame(
      await client.do({ do: 'receive' }),
      [{ parameters: { number }, ...(number < 3 && { continues: true }) }, []],
      `reply ${number}`,
    );
  t.ok(await until(() => descriptors() === before), 'no descriptor is left');
  await client.end();
  service.end();
});
t.end();
