/** Proves src/driver/mailbox.ts, between two threads. */
import { setImmediate as turn } from 'node:timers/promises';
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import t from 'tap';
import { Mailbox, type MailboxEnd, MailboxSender } from '../../src/driver/mailbox.ts';
import { must } from '../../src/sys/errno.ts';
import { native } from '../../src/sys/native.ts';
import type { Received, ReceiverData } from '../fixtures/mailbox-receiver.ts';

const POLLIN = 1;
const isReadable = (fd: number): boolean => native.poll(Int32Array.of(fd), POLLIN, 0) > 0;

/** Sends `count` messages as `send` says, to a receiver that sleeps when there is none; what it saw. */
async function exchange(
  count: number,
  answers: boolean,
  send: (post: (message: number) => void, answered: (number: number) => Promise<void>) => Promise<void>,
): Promise<{ received: Received; heard: number[] }> {
  const heard: number[] = [];
  let hear: () => void = () => {};
  const sender = new MailboxSender<number, number>(message => {
    heard.push(message);
    hear();
  });
  const answered = async (number: number): Promise<void> => {
    while (heard.length < number) await new Promise<void>(resolve => (hear = resolve));
  };
  const workerData: ReceiverData = { end: sender.end, count, answers };
  const url = new URL('../fixtures/mailbox-receiver.js', import.meta.url);
  const worker = new Worker(url, { workerData, transferList: [sender.end.port] });
  const result = new Promise<Received>((resolve, reject) => worker.once('message', resolve).once('error', reject));
  await send(message => sender.post(message), answered);
  const received = await result;
  if (answers) await answered(received.count);
  native.close(sender.end.wake);
  return { received, heard };
}

/** Numbers below `below` that are the same in each run. Source: xorshift32, Marsaglia 2003. */
let state = 0x2545f491;
function random(below: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
}

t.test('nothing is lost, and order is kept', { timeout: 60_000 }, async t => {
  for (const [rule, count, answers, pause] of [
    ['one message a sleep', 3000, true, 'answer'],
    ['one after the other without a pause', 30_000, false, 'none'],
    ['bursts, between which the receiver may fall asleep', 30_000, false, 'turns'],
    ['both ends talk', 10_000, true, 'turns'],
  ] as const) {
    const { received, heard } = await exchange(count, answers, async (post, answered) => {
      for (let i = 0; i < count; i++) {
        post(i);
        if (pause === 'answer') await answered(i + 1);
        if (pause === 'turns' && random(40) === 0) for (let turns = random(4); turns > 0; turns--) await turn();
      }
    });
    t.equal(received.count, count, `${rule}: each message arrives`);
    t.equal(received.outOfOrder, undefined, `${rule}: in the order in which they were posted`);
    t.notOk(received.starved, `${rule}: nobody sleeps while there is one`);
    t.ok(received.restless <= 1, `${rule}: and then it can sleep`); // the last waking may come after its message
    if (answers) t.ok(heard.length === count && heard.every((message, i) => message === i), `${rule}: so do answers`);
    if (pause === 'answer') t.ok(received.sleeps > count / 2, `${rule}: it slept`);
  }
});

t.test('without messages neither the port nor the descriptor is touched', async t => {
  const wake = must(native.eventfd(1), 'eventfd');
  const untouchable = new Proxy(
    {},
    {
      get: (_, name) => {
        throw new Error(`the port was asked for ${String(name)}`);
      },
    },
  ) as MessagePort;
  const mailbox = new Mailbox({ port: untouchable, wake, count: new Int32Array(new SharedArrayBuffer(4)) });
  for (let i = 0; i < 1000; i++) if (mailbox.receive() !== undefined) t.fail('a message from nowhere');
  t.ok(isReadable(wake), 'what was in the descriptor is still there');
  native.close(wake);
});

t.test('who sees the count can drain the descriptor', { timeout: 60_000 }, async t => {
  const messages = 5000;
  const worker = new Worker(new URL('../fixtures/mailbox-poster.js', import.meta.url), { workerData: messages });
  const end = await new Promise<MailboxEnd>((resolve, reject) => worker.once('message', resolve).once('error', reject));
  const ended = new Promise(resolve => worker.once('exit', resolve));
  const mailbox = new Mailbox<number, number>(end);
  const wake = Int32Array.of(end.wake);
  let late = 0;
  for (let taken = 0; taken < messages; taken++) {
    mailbox.post(taken);
    while (Atomics.load(end.count, 0) === taken);
    if (mailbox.receive() !== taken || mailbox.receive() !== undefined) t.fail(`message ${taken}`);
    if (native.poll(wake, POLLIN, taken % 100 === 0 ? 1 : 0) > 0) late++;
  }
  t.equal(late, 0, 'it never wakes for what was counted before');
  mailbox.post(messages);
  await ended;
  native.close(end.wake);
});

t.test('one message wakes once', async t => {
  const { port1, port2 } = new MessageChannel();
  const wake = must(native.eventfd(0), 'eventfd');
  const count = new Int32Array(new SharedArrayBuffer(4));
  const mailbox = new Mailbox<string, never>({ port: port2, wake, count });
  /** The steps of a post, which another thread may be in the middle of. */
  const [say, ring, tally] = [
    (message: string): void => port1.postMessage(message),
    (): unknown => must(native.fuseReply(wake, new Uint8Array(new BigUint64Array([1n]).buffer), 8), 'write'),
    (): unknown => Atomics.add(count, 0, 1),
  ];
  say('a');
  t.equal(mailbox.receive(), undefined, 'not counted: not looked for');
  ring();
  t.equal(mailbox.receive(), undefined);
  t.ok(isReadable(wake), 'but the receiver does not sleep');
  tally();
  t.equal(mailbox.receive(), 'a');
  say('b');
  t.equal(mailbox.receive(), 'b', 'a message that is there before it was counted');
  t.equal(mailbox.receive(), undefined);
  ring();
  t.ok(isReadable(wake), 'wakes all the same');
  tally();
  t.equal(mailbox.receive(), undefined);
  t.notOk(isReadable(wake), 'once');
  for (const message of ['c', 'd']) {
    say(message);
    ring();
    tally();
  }
  t.strictSame([mailbox.receive(), mailbox.receive(), mailbox.receive()], ['c', 'd', undefined], 'two at once');
  t.notOk(isReadable(wake), 'after which it can sleep');
  port1.close();
  native.close(wake);
});
t.end();
