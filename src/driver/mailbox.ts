/**
 * Messages to a thread that serves the kernel, and so never comes back to its event loop.
 *
 *     sender      posts the message, makes `wake` readable, counts one up
 *     receiver    sees the new count between two requests, or is woken from poll(2) by `wake`
 */
import { readSync, writeSync } from 'node:fs';
import { MessageChannel, type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';

/** What the receiving thread is given; the port is to be transferred. */
export interface MailboxEnd {
  readonly port: MessagePort;
  /** An eventfd(2). */
  readonly wake: number;
  /** How many messages were posted. */
  readonly count: Int32Array<SharedArrayBuffer>;
}

const ONE = new BigUint64Array([1n]);

/** The end of a thread that has an event loop. */
export class MailboxSender<Out, In> {
  /** For the other thread. */
  readonly end: MailboxEnd;
  private readonly port: MessagePort;

  /** @param receive is given what the other thread says */
  constructor(receive: (message: In) => void) {
    const { port1, port2 } = new MessageChannel();
    this.port = port1;
    this.port.on('message', receive);
    this.port.unref();
    const wake = must(native.eventfd(0), 'eventfd');
    this.end = { port: port2, wake, count: new Int32Array(new SharedArrayBuffer(4)) };
  }

  post(message: Out): void {
    this.port.postMessage(message);
    writeSync(this.end.wake, ONE); // before the count, so that a receiver that sees the count can drain it
    Atomics.add(this.end.count, 0, 1);
  }
}

/** The end of the thread that serves. */
export class Mailbox<In, Out> {
  /** Can be read when a message may be there. */
  readonly wake: number;
  private readonly end: MailboxEnd;
  private readonly drained = new BigUint64Array(1);
  private seen = 0;

  constructor(end: MailboxEnd) {
    this.end = end;
    this.wake = end.wake;
  }

  post(message: Out): void {
    this.end.port.postMessage(message);
  }

  /** The next message; undefined: none. Costs next to nothing while nothing was posted. */
  receive(): In | undefined {
    if (Atomics.load(this.end.count, 0) === this.seen) return undefined;
    this.drain(); // first: what is posted from here on makes `wake` readable again
    const count = Atomics.load(this.end.count, 0);
    const received = receiveMessageOnPort(this.end.port);
    if (received) return received.message as In;
    this.seen = count;
    return undefined;
  }

  private drain(): void {
    try {
      readSync(this.wake, this.drained);
    } catch {} // EAGAIN: it was empty
  }
}
