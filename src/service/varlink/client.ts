/** A client that waits for each reply, without an event loop. */
import { byteStringFromText } from '../../sys/bytes.ts';
import { EPIPE, EPROTO, ErrnoError, ETIME, must } from '../../sys/errno.ts';
import { native } from '../../sys/native.ts';
import { EPOLLIN, EPOLLOUT } from '../../sys/sockets/readiness.ts';
import { SOCK_STREAM } from '../../sys/sockets/types.ts';
import { Descriptors, plainKeeper } from './descriptors.ts';
import { Incoming, type Message } from './incoming.ts';
import type { ErrorTypes, Interface, Method, Methods } from './interface.ts';
import type { JsonObject } from './json.ts';
import { LIMITS } from './limits.ts';
import { Outgoing } from './outgoing.ts';
import { parseReply } from './protocol.ts';
import type { Received, Sent } from './types.ts';
import { InvalidField, receive, toSend } from './values.ts';

const O_NONBLOCK = 0o4000;

/** An error that the service has replied. */
export class CallError {
  /** With the name of its interface: `org.varlink.service.InvalidParameter`. */
  readonly error: string;
  readonly parameters: JsonObject;

  constructor(error: string, parameters: JsonObject) {
    this.error = error;
    this.parameters = parameters;
  }
}

export class VarlinkClient {
  private readonly fd: number;
  private readonly timeoutMs: number;
  private readonly incoming: Incoming;
  private readonly outgoing: Outgoing;
  /** Of the last reply. */
  private descriptors = new Descriptors([], plainKeeper);

  /**
   * Connects to a service.
   * @param timeoutMs how long each reply may take
   * Throws ErrnoError.
   */
  constructor(path: string, timeoutMs: number) {
    this.fd = must(native.connectSocket(byteStringFromText(path), SOCK_STREAM), path);
    native.setStatusFlags(this.fd, O_NONBLOCK);
    this.timeoutMs = timeoutMs;
    this.incoming = new Incoming(this.fd, LIMITS.messageBytes, LIMITS.messageDescriptors, plainKeeper);
    this.outgoing = new Outgoing(this.fd);
  }

  /**
   * Calls a method. Descriptors among the parameters are closed. Those in the reply are closed by the next call, or `close`, unless
   * they are taken.
   * @returns what it gives, or the error
   * Throws ErrnoError: ETIME if no reply comes in time, EPIPE if the service has closed the connection, EPROTO.
   */
  call<M extends Methods, E extends ErrorTypes, N extends keyof M & string>(
    of: Interface<M, E>,
    name: N,
    parameters: Sent<M[N]['takes']>,
  ): Received<M[N]['gives']> | CallError {
    this.begin(of, name, parameters, false);
    return this.reply<Received<M[N]['gives']>>(of, name).reply;
  }

  /** Calls a method with `isStream`: as `call` does, for each reply. All replies must be read before the next call. */
  *stream<M extends Methods, E extends ErrorTypes, N extends keyof M & string>(
    of: Interface<M, E>,
    name: N,
    parameters: Sent<M[N]['takes']>,
  ): Generator<Received<M[N]['gives']> | CallError> {
    this.begin(of, name, parameters, true);
    for (let continues = true; continues; ) {
      const next = this.reply<Received<M[N]['gives']>>(of, name);
      yield next.reply;
      continues = next.continues;
    }
  }

  close(): void {
    void this.descriptors.closeAll();
    this.incoming.close();
    this.outgoing.close();
    native.close(this.fd);
  }

  private begin(of: Interface, name: string, parameters: object, more: boolean): void {
    const fds: number[] = [];
    const { takes } = of.methods[name] as Method;
    const message = { method: `${of.name}.${name}`, parameters: toSend(takes, parameters, fds), ...(more && { more }) };
    this.outgoing.add(message, fds);
    for (const until = this.deadline(); this.outgoing.flush() === 0; ) this.wait(EPOLLOUT, until);
  }

  private reply<R>(of: Interface, name: string): { reply: R | CallError; continues: boolean } {
    const message = this.receive();
    void this.descriptors.closeAll();
    this.descriptors = new Descriptors(message.fds, plainKeeper);
    const { parameters, continues, error } = parseReply(message.bytes, LIMITS.depth);
    if (error !== undefined) return { reply: new CallError(error, parameters), continues: false };
    const { gives } = of.methods[name] as Method;
    const reply = receive(gives, parameters, this.descriptors);
    if (reply instanceof InvalidField)
      throw new ErrnoError(EPROTO, `${of.name}.${name}: wrong ${reply.field} in the reply`);
    return { reply: reply as R, continues };
  }

  private receive(): Message {
    for (const until = this.deadline(); ; ) {
      const message = this.incoming.next();
      if (message) return message;
      const came = this.incoming.read();
      if (came === 'end') throw new ErrnoError(EPIPE, 'the service has closed the connection');
      if (came === 'nothing') this.wait(EPOLLIN, until);
    }
  }

  private deadline(): number {
    return performance.now() + this.timeoutMs;
  }

  private wait(events: number, until: number): void {
    const left = Math.ceil(until - performance.now());
    if (left <= 0) throw new ErrnoError(ETIME, `the service does not answer within ${this.timeoutMs} ms`);
    native.poll(Int32Array.of(this.fd), events, left);
  }
}
