/** What a server may report: its process can be in the hands of a user. */
import { writeSync } from 'node:fs';
import t from 'tap';
import { receiveReport } from '../../../src/service/server/orders.ts';
import { native } from '../../../src/sys/native.ts';
import { SOCK_SEQPACKET } from '../../../src/sys/sockets/types.ts';
import { descriptors, openOrThrow } from '../../fixtures/native.ts';

const pair = new Int32Array(2);
native.socketPair(pair, SOCK_SEQPACKET);
const [broker = -1, server = -1] = pair;
t.teardown(() => [broker, server].forEach(fd => void native.close(fd)));

const digest = 'ab'.repeat(32);
const ready = { kind: 'ready', id: 1, digest, connection: { minor: 45, flags: ['PASSTHROUGH'] } };

t.test('reports', async t => {
  for (const report of [
    { kind: 'begun', confinement: 'none' },
    ready,
    { kind: 'ended', id: 2, how: 'unmounted', errno: 0 },
    { kind: 'log', line: 'x' },
  ]) {
    writeSync(server, JSON.stringify(report));
    t.strictSame(receiveReport(broker), report);
  }
});

t.test('what is none', async t => {
  for (const [rule, text] of [
    ['no JSON', '{'],
    ['no object', '[1]'],
    ['null', 'null'],
    ['another kind', '{"kind":"toString"}'],
    ['a digest that is none', JSON.stringify({ ...ready, digest: `${digest}\n` })],
    ['a number as a digest', JSON.stringify({ ...ready, digest: 5 })],
    ['an id that is no number', JSON.stringify({ ...ready, id: '1' })],
    ['unknown flags', JSON.stringify({ ...ready, connection: { minor: 45, flags: ['toString'] } })],
    ['flags that are no list', JSON.stringify({ ...ready, connection: { minor: 45, flags: 'PASSTHROUGH' } })],
    ['no connection', JSON.stringify({ ...ready, connection: null })],
    ['a line without end', JSON.stringify({ kind: 'log', line: 'x'.repeat(5000) })],
    ['an errno that is none', JSON.stringify({ kind: 'ended', id: 1, how: 'x', errno: {} })],
  ] as const) {
    writeSync(server, text);
    t.throws(() => receiveReport(broker), { name: 'EPROTO' }, rule);
  }
});

t.test('descriptors are not taken', async t => {
  const before = descriptors();
  const fd = openOrThrow('/dev/null');
  native.sendMessage(server, Buffer.from(JSON.stringify(ready)), Int32Array.of(fd, fd));
  native.close(fd);
  t.strictSame(receiveReport(broker), ready);
  t.equal(descriptors(), before);
});
t.end();
