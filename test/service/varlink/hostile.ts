/** Clients that break the rules of varlink: they get an error or lose their connection, and others go on. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { LIMITS, type Limits } from '../../../src/service/varlink/limits.ts';
import { descriptors } from '../../fixtures/native.ts';
import { PythonClient, type Service, serveShop, until } from '../../fixtures/varlink/service.ts';

const X = 'org.example.Shop';
const home = mkdtempSync('/tmp/varlink-files-');
const file = join(home, 'file');
writeFileSync(file, 'bytes');
t.teardown(() => rmSync(home, { recursive: true }));

const NOBODY = 65534;
/** A connection that is closed: python3 gets no reply. */
const CLOSED = null;
const hex = (text: string | Uint8Array): string => Buffer.from(text).toString('hex');
const echo = (parameters: string): string => `{"method":"${X}.Echo","parameters":${parameters}}`;
const invalid = (parameter: string): unknown => [
  { error: 'org.varlink.service.InvalidParameter', parameters: { parameter } },
  [],
];
const given = (parameters: object, ...contents: string[]): unknown => [{ parameters }, contents];
const nested = (depth: number): string => echo(`{"any":${'{"a":'.repeat(depth)}0${'}'.repeat(depth)}}`);

async function withClient(limits: Partial<Limits>, act: (client: PythonClient, service: Service) => Promise<void>) {
  const service = serveShop(limits);
  const client = new PythonClient(service.path);
  await act(client, service);
  await client.end();
  service.end();
}

t.test('messages', async t => {
  await withClient({}, async (client, service) => {
    await client.do({ do: 'connect', on: 9 });
    await client.call(`${X}.Echo`, {}, { on: 9 });
    const before = descriptors();
    for (const [rule, message, want] of [
      ['a message that is right', echo('{"text":"é"}'), given({ text: 'é' })],
      [
        'space around all',
        ' { "method" : "org.example.Shop.Echo" , "parameters" : { "number" : 5 } } ',
        given({ number: 5 }),
      ],
      ['no JSON', 'hello', CLOSED],
      ['an empty message', '', CLOSED],
      ['half an object', '{"method":"org.example.Shop.Echo"', CLOSED],
      ['two objects', '{} {}', CLOSED],
      ['an array', '[]', CLOSED],
      ['a comma too many', echo('{"number":1,}'), CLOSED],
      ['a number with a zero before it', echo('{"number":01}'), CLOSED],
      ['a word of JavaScript', echo('{"number":NaN}'), CLOSED],
      ['no method', '{"parameters":{}}', CLOSED],
      ['a method that is no text', '{"method":7}', CLOSED],
      ['bytes that are not UTF-8', Buffer.from([...Buffer.from('{"method":"'), 0xff, 0x22, 0x7d]), CLOSED],
      ['half a character of UTF-8', Buffer.from([...Buffer.from('{"method":"'), 0xed, 0xa0, 0x80, 0x22, 0x7d]), CLOSED],
      ['a mark of the order of bytes', `\ufeff${echo('{}')}`, CLOSED],
      ['a line end in text', echo('{"text":"a\nb"}'), CLOSED],
      ['an unknown escape', echo('{"text":"\\x41"}'), CLOSED],
      ['two fields with one name', echo('{"number":1,"number":2}'), CLOSED],
      ['two fields with one name, written otherwise', echo('{"number":1,"\\u006eumber":2}'), CLOSED],
      ['the depth that is allowed', nested(LIMITS.depth - 2), given({})],
      ['one more', nested(LIMITS.depth - 1), CLOSED],
      ['a depth that would end a process', nested(20_000), CLOSED],
      ['arrays of that depth', `${'['.repeat(100_000)}`, CLOSED],
      ['a field that nobody knows', echo('{"nobody":1}'), invalid('nobody')],
      ['a name of JavaScript', echo('{"__proto__":{"text":"a"}}'), invalid('__proto__')],
      ['the same inside', echo('{"points":[{"x":1,"y":2,"__proto__":{}}]}'), invalid('points.0.__proto__')],
      [
        'the same as a name of a map',
        echo('{"names":{"__proto__":"a"}}'),
        given({ names: JSON.parse('{"__proto__":"a"}') }),
      ],
      ['the same in the message', `{"method":"${X}.Echo","__proto__":{}}`, invalid('__proto__')],
      ['a constructor', echo('{"constructor":1}'), invalid('constructor')],
      ['a field of the message that nobody knows', `{"method":"${X}.Echo","nobody":1}`, invalid('nobody')],
      ['a flag that is no bool', `{"method":"${X}.Echo","more":1}`, invalid('more')],
      ['an upgrade', `{"method":"${X}.Echo","upgrade":true}`, invalid('upgrade')],
      ['more and oneway', `{"method":"${X}.Echo","more":true,"oneway":true}`, CLOSED],
      ['parameters that are no object', echo('[]'), invalid('parameters')],
      ['2^53', echo('{"number":9007199254740992}'), invalid('number')],
      ['2^53 + 1, which is no double', echo('{"points":[{"x":1,"y":9007199254740993}]}'), invalid('points.0.y')],
      ['a number that is infinite', echo('{"half":1e999}'), invalid('half')],
      ['a number out of the range of the field', echo('{"points":[{"x":101,"y":0}]}'), invalid('points.0.x')],
      ['a fraction', echo('{"number":1.5}'), invalid('number')],
      ['text for a number', echo('{"number":"1"}'), invalid('number')],
      ['a number for text', echo('{"text":1}'), invalid('text')],
      ['a number for a bool', echo('{"is":0}'), invalid('is')],
      ['text for an array', echo('{"points":"a"}'), invalid('points')],
      ['an object for an array', echo('{"points":{"0":1}}'), invalid('points')],
      ['an array for an object', echo('{"any":[]}'), invalid('any')],
      ['a missing field', echo('{"points":[{"x":1}]}'), invalid('points.0.y')],
      ['a word that is not of the enum', echo('{"verity":"maybe"}'), invalid('verity')],
      ['a NUL in text', echo('{"text":"a\\u0000b"}'), invalid('text')],
      ['a NUL in a name', echo('{"names":{"a\\u0000b":"c"}}'), invalid('names')],
      ['half a character in text', echo('{"text":"\\ud800"}'), invalid('text')],
      ['a whole character in halves', echo('{"text":"\\ud83d\\ude00"}'), given({ text: '😀' })],
      ['a field with a long name', echo(`{"${'x'.repeat(5000)}":1}`), invalid(`${'x'.repeat(200)}…`)],
      [
        'the largest message',
        echo(`{"any":{"a":"${'x'.repeat(LIMITS.messageBytes - echo('{"any":{"a":""}}').length)}"}}`),
        given({}),
      ],
      [
        'one byte more',
        echo(`{"any":{"a":"${'x'.repeat(LIMITS.messageBytes - echo('{"any":{"a":""}}').length + 1)}"}}`),
        CLOSED,
      ],
    ] as const) {
      await client.do({ do: 'connect' });
      await client.do({ do: 'bytes', value: `${hex(message)}00` });
      if (rule === 'more and oneway') await client.do({ do: 'shutdown' });
      t.strictSame(await client.do({ do: 'receive' }), want, rule);
      await client.do({ do: 'close' });
    }
    t.strictSame(await client.call(`${X}.Echo`, { text: 'a' }, { on: 9 }), given({ text: 'a' }), 'others go on');
    t.ok(await until(() => descriptors() === before), 'no descriptor is left');
    t.ok(service.doings.log.length > 10, 'the log names those that were closed');
    t.notOk(
      service.doings.log.some(line => /[\n\0]/.test(line)),
      'a line each',
    );
  });
});

t.test('an endless message', async t => {
  await withClient({}, async client => {
    await client.do({ do: 'connect' });
    await client.do({ do: 'connect', on: 1 });
    let answer: unknown = 'sent';
    for (let sent = 0; answer === 'sent' && sent < 200; sent++)
      answer = await client.do({ do: 'bytes', value: hex('x'.repeat(10_000)) });
    t.match(answer, /BrokenPipe|ConnectionReset/, 'it is not read to its end');
    t.strictSame(await client.call(`${X}.Echo`, { text: 'a' }, { on: 1 }), given({ text: 'a' }), 'others go on');
  });
});

t.test('descriptors and messages in one piece', async t => {
  await withClient({}, async client => {
    const user = process.getuid?.();
    const read = `{"method":"${X}.Read","parameters":{"first":0}}\0`;
    const plain = `${echo('{}')}\0`;
    const got = given({ contents: ['bytes'], user });
    await client.do({ do: 'connect', on: 9 });
    await client.call(`${X}.Echo`, {}, { on: 9 });
    const before = descriptors();
    for (const [rule, pieces, want] of [
      ['a message before', [[plain], [read, file]], [given({}), got]],
      ['a message after', [[read, file], [plain]], [got, given({})]],
      [
        'two messages with descriptors',
        [
          [read, file],
          [read, file],
        ],
        [got, got],
      ],
      ['the first byte alone', [['{', file], [read.slice(1)]], [got]],
      ['half a message before', [[plain.slice(0, 9)], [plain.slice(9)], [read, file]], [given({}), got]],
      [
        'the end of a message, and one with descriptors',
        [[read.slice(0, 9), file], [read.slice(9)], [read, file]],
        [got, got],
      ],
      ['two messages in one write: the last one names it', [[plain + read, file]], [given({}), got]],
      ['two messages in one write: the first one names it', [[read + plain, file]], [invalid('first'), CLOSED]],
      ['two messages in one write: both name it', [[read + read, file]], [invalid('first'), CLOSED]],
      [
        'descriptors with the first byte and another',
        [
          ['{', file],
          [read.slice(1), file],
        ],
        [CLOSED],
      ],
      ['descriptors with a message that names none', [[plain, file]], [given({})]],
    ] as const) {
      await client.do({ do: 'connect' });
      // The service looks at all of it at once, for Python sends it before the event loop has a turn.
      const steps = pieces.map(([bytes, ...fds]) => ({ do: 'bytes', value: hex(bytes), fds }) as const);
      await client.together(steps);
      for (const reply of want) t.strictSame(await client.do({ do: 'receive' }), reply, rule);
      await client.do({ do: 'close' });
    }
    await client.do({ do: 'connect' });
    await client.do({ do: 'bytes', value: hex(read.slice(0, 9)) });
    await sleep(50);
    await client.do({ do: 'bytes', value: hex(read.slice(9)), fds: [file] });
    t.equal(await client.do({ do: 'receive' }), CLOSED, 'descriptors with the middle of a message, read before');
    await client.do({ do: 'close' });
    t.ok(await until(() => descriptors() === before), 'no descriptor is left');
  });
});

t.test('limits', async t => {
  const wait = { do: 'send', value: { method: `${X}.Wait`, parameters: {} } } as const;
  const isOpen = async (client: PythonClient, on: number): Promise<boolean> =>
    (await client.do({ do: 'receive', on, timeout: 0.2 })) === 'nothing';

  await withClient({ messageDescriptors: 3 }, async client => {
    const before = descriptors();
    await client.do({ do: 'connect' });
    const others = [1, 2];
    t.match(await client.call(`${X}.Read`, { first: 0, others }, { fds: [file, file, file] }), [{}, []], 'three');
    t.equal(await client.call(`${X}.Read`, { first: 0, others }, { fds: [file, file, file, file] }), CLOSED, 'four');
    t.ok(await until(() => descriptors() <= before + 1), 'no descriptor is left');
  });

  await withClient({ userConnections: 3 }, async client => {
    for (const on of [0, 1, 2, 3]) await client.do({ do: 'connect', on });
    t.equal(await client.call(`${X}.Echo`, {}, { on: 3 }), CLOSED, 'a connection too many of one user');
    t.strictSame(await client.call(`${X}.Echo`, {}, { on: 2 }), given({}), 'the others go on');
    await client.do({ do: 'close', on: 0 });
    await sleep(50);
    await client.do({ do: 'connect', on: 3 });
    t.strictSame(await client.call(`${X}.Echo`, {}, { on: 3 }), given({}), 'one ends, another may begin');
  });

  await withClient({ connections: 1 }, async (client, { path }) => {
    await client.do({ do: 'connect' });
    t.strictSame(await client.call(`${X}.Echo`, {}), given({}));
    const isRoot = process.getuid?.() === 0;
    const other = new PythonClient(path, isRoot ? NOBODY : undefined);
    await other.do({ do: 'connect' });
    t.equal(await other.call(`${X}.Echo`, {}), CLOSED, 'a connection too many of all users');
    await other.end();
    await client.do({ do: 'connect', on: 1 });
    const want = isRoot ? given({}) : CLOSED;
    t.strictSame(await client.call(`${X}.Echo`, {}, { on: 1 }), want, 'of which root may have more');
  });

  await withClient({ logLines: 2 }, async (client, { doings }) => {
    for (let i = 0; i < 5; i++) {
      await client.do({ do: 'connect' });
      await client.do({ do: 'bytes', value: '00' });
      t.equal(await client.do({ do: 'receive' }), CLOSED);
    }
    t.match(doings.log, [/message is empty/, /message is empty/, /more than 2 lines/], 'lines of the log');
    t.equal(doings.log.length, 3);
  });

  await withClient({ userCalls: 2 }, async (client, { doings }) => {
    for (const on of [0, 1, 2, 3]) await client.do({ do: 'connect', on });
    for (const on of [0, 1, 2]) await client.do({ ...wait, on });
    await until(() => doings.waiting === 2);
    await sleep(50);
    t.equal(doings.waiting, 2, 'no more calls of a user at once');
    doings.release.shift()?.();
    t.ok(await until(() => doings.release.length === 2), 'the next one follows');
    t.strictSame(await client.do({ do: 'receive', on: 0 }), given({}));
    await client.do({ do: 'close', on: 1 });
    t.ok(await until(() => doings.aborted === 1), 'a call whose client is gone is aborted');
    const { user, system } = process.cpuUsage();
    await sleep(200);
    const after = process.cpuUsage();
    t.ok(after.user + after.system - user - system < 100_000, 'and takes no time until it ends');
    await client.do({ do: 'shutdown', on: 2 });
    await sleep(20);
    for (const release of doings.release.splice(0)) release();
    t.strictSame(await client.do({ do: 'receive', on: 2 }), given({}), 'who sends no more gets a reply');
    t.equal(await client.do({ do: 'receive', on: 2 }), CLOSED);
  });

  await withClient({ userDescriptors: 5 }, async (client, { doings }) => {
    const before = descriptors();
    await client.do({ do: 'connect' });
    await client.do({ ...wait, fds: [file] });
    for (let i = 0; i < 20; i++) await client.do({ ...wait, fds: [file, file] });
    await until(() => doings.waiting === 1);
    await sleep(50);
    t.ok(descriptors() <= before + 4, 'one connection has the service hold those of two messages');
    for (const on of [1, 2]) {
      await client.do({ do: 'connect', on });
      const value = { method: `${X}.Wait`, parameters: { files: [0, 1, 2] } };
      await client.do({ do: 'send', value, on, fds: [file, file, file] });
    }
    t.equal(await client.do({ do: 'receive', on: 2 }), CLOSED, 'too many descriptors of one user');
    t.ok(await isOpen(client, 1), 'the others go on');
  });

  await withClient({ halfMessageMs: 200, idleMs: 600 }, async client => {
    for (const on of [0, 1, 2]) await client.do({ do: 'connect', on });
    await client.do({ do: 'bytes', value: hex('{'), on: 0 });
    await client.do({ ...wait, on: 1 });
    const start = performance.now();
    for (let i = 0; i < 4; i++) {
      await sleep(60);
      await client.do({ do: 'bytes', value: hex(' '), on: 0 });
    }
    t.equal(await client.do({ do: 'receive', on: 0 }), CLOSED, 'a message that does not end');
    t.ok(performance.now() - start < 550, 'not as late as an idle connection');
    t.equal(await client.do({ do: 'receive', on: 2 }), CLOSED, 'an idle connection');
    t.ok(await isOpen(client, 1), 'one whose call is handled is not idle');
  });

  await withClient({ unreadReplyMs: 300 }, async (client, { doings }) => {
    const before = descriptors();
    await client.do({ do: 'connect' });
    const big = { method: `${X}.Echo`, parameters: { text: 'x'.repeat(250_000) } };
    for (let i = 0; i < 2; i++) await client.do({ do: 'send', value: big });
    await until(() => doings.echoed > 0);
    await sleep(100);
    t.equal(doings.echoed, 1, 'no call is looked at while a reply waits');
    t.ok(await until(() => descriptors() === before), 'the connection of one that does not read ends');
  });
});

t.test('a descriptor whose close waits', async t => {
  await withClient({ userDescriptors: 1 }, async client => {
    for (const on of [0, 1, 2]) await client.do({ do: 'connect', on });
    const start = performance.now();
    await client.do({ do: 'linger', value: 6 });
    t.strictSame(await client.do({ do: 'receive' }), given({}), 'its own call is answered');
    t.strictSame(await client.call(`${X}.Echo`, {}, { on: 1 }), given({}), 'others go on');
    t.ok(performance.now() - start < 5000, 'before it is closed');
    t.equal(await client.call(`${X}.Echo`, {}, { on: 2, fds: [file] }), CLOSED, 'it counts for its user');
    await sleep(6500 - (performance.now() - start));
    t.strictSame(await client.call(`${X}.Echo`, {}, { on: 1, fds: [file] }), given({}), 'until it is closed');
  });
});

t.test('the process has no descriptor left', async t => {
  await withClient({}, async (client, service) => {
    await client.do({ do: 'connect' });
    await client.call(`${X}.Echo`, {});
    const before = await client.do({ do: 'limit', value: 5 }); // the kernel gives the lowest number that is free
    for (const on of [1, 2]) await client.do({ do: 'connect', on });
    const { user, system } = process.cpuUsage();
    await sleep(500);
    const after = process.cpuUsage();
    t.ok(after.user + after.system - user - system < 250_000, 'it does not try forever');
    t.strictSame(await client.call(`${X}.Echo`, {}), given({}), 'a connection that is there goes on');
    t.match(service.doings.log[0], /Too many open files/);
    await client.do({ do: 'limit', value: before });
    t.strictSame(await client.call(`${X}.Echo`, {}, { on: 1 }), given({}), 'one that waits is accepted later');
  });
});
t.end();
