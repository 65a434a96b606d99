/** Finds the method that a call names, and makes the reply. */
import { asOneLine } from '../../sys/bytes.ts';
import { EIO, ErrnoError, errnoName } from '../../sys/errno.ts';
import type { Descriptors } from './descriptors.ts';
import { describe } from './idl.ts';
import {
  type CallContext,
  Failure,
  type Handler,
  type Implementation,
  implement,
  type Peer,
} from './implementation.ts';
import type { Interface, Method } from './interface.ts';
import type { JsonObject } from './json.ts';
import type { Call } from './protocol.ts';
import { varlinkService } from './service.ts';
import type { Fields, Sent } from './types.ts';
import { InvalidField, receive, toSend } from './values.ts';

/** What GetInfo says of a service. */
export interface About {
  readonly vendor: string;
  readonly product: string;
  readonly version: string;
  readonly url: string;
}

/** A message to send. */
export interface Answer {
  readonly message: object;
  /** Closed when they are sent. */
  readonly fds: readonly number[];
}

/** Of a call, besides what it says. */
export interface Circumstances {
  readonly peer: Peer;
  readonly signal: AbortSignal;
  readonly descriptors: Descriptors;
  /** Sends a reply that others follow. @returns whether it was sent */
  readonly send: (answer: Answer) => Promise<boolean>;
}

/** How much of a text from a client goes back to it in an error. */
const QUOTED = 200;

export class Dispatcher {
  private readonly interfaces: ReadonlyMap<string, Implementation>;
  private readonly log: (line: string) => void;

  constructor(about: About, implementations: readonly Implementation[], log: (line: string) => void) {
    const service = implement(varlinkService, {
      GetInfo: () => ({ ...about, interfaces: [...this.interfaces.keys()].sort() }),
      GetInterfaceDescription: ({ interface: name }, { fail }) => {
        const found = this.interfaces.get(name);
        if (!found) return fail('InterfaceNotFound', { interface: quote(name) });
        return { description: describe(found.interface) };
      },
    });
    this.interfaces = new Map([service, ...implementations].map(one => [one.interface.name, one]));
    this.log = log;
  }

  /** Answers a call. It never rejects. */
  async answer(call: Call, circumstances: Circumstances): Promise<Answer> {
    try {
      return await this.perform(call, circumstances);
    } catch (error) {
      const text = error instanceof ErrnoError ? `${error.name}: ${error.message}` : (error as Error).stack;
      this.log(asOneLine(`${call.interface}.${call.method}: ${text}`));
      return systemFailure(error instanceof ErrnoError ? error.errno : EIO);
    }
  }

  private async perform(call: Call, circumstances: Circumstances): Promise<Answer> {
    const { descriptors } = circumstances;
    const found = this.find(call);
    if (found instanceof Failure) return answerFailure(found, varlinkService);
    const { method, handler, of } = found;
    const parameters = receive(method.takes, call.parameters, descriptors);
    descriptors.closeUnnamed();
    if (parameters instanceof InvalidField) return answerFailure(invalid(parameters.field), of);
    if (method.isStream && !call.more) return answerFailure(serviceFailure('ExpectedMore', {}), of);
    const result = await handler(parameters, contextOf(method, circumstances));
    return result instanceof Failure ? answerFailure(result, of) : answer(method.gives, result);
  }

  private find(call: Call): { method: Method; handler: Handler; of: Interface } | Failure {
    if (call.wrong !== undefined) return invalid(call.wrong);
    const found = this.interfaces.get(call.interface);
    if (!found) return serviceFailure('InterfaceNotFound', { interface: quote(call.interface) });
    const { methods } = found.interface;
    const path = quote(`${call.interface}.${call.method}`);
    const method = Object.hasOwn(methods, call.method) ? methods[call.method] : undefined;
    if (!method) return serviceFailure('MethodNotFound', { method: path });
    const handler = found.handlers.get(call.method);
    return handler
      ? { method, handler, of: found.interface }
      : serviceFailure('MethodNotImplemented', { method: path });
  }
}

const contextOf = (method: Method, { peer, signal, send }: Circumstances): CallContext => ({
  peer,
  signal,
  fail: (error, holds) => new Failure(error, holds),
  send: reply => {
    const { message, fds } = answer(method.gives, reply);
    return send({ message: { ...message, continues: true }, fds });
  },
});

function answer(gives: Fields, values: Sent<Fields>): Answer {
  const fds: number[] = [];
  return { message: { parameters: toSend(gives, values, fds) }, fds };
}

/** @param of the interface whose error it may be */
function answerFailure({ error, holds }: Failure, of: Interface): Answer {
  const isOwn = Object.hasOwn(of.errors, error);
  const { name, errors } = isOwn ? of : varlinkService;
  const fields = (errors as Interface['errors'])[error]?.holds ?? {};
  const { message, fds } = answer(fields, holds as Sent<Fields>);
  return { message: { error: `${name}.${error}`, ...message }, fds };
}

const serviceFailure = <N extends keyof (typeof varlinkService)['errors']>(
  error: N,
  holds: Sent<(typeof varlinkService)['errors'][N]['holds']>,
): Failure => new Failure(error, holds);

const invalid = (parameter: string): Failure => serviceFailure('InvalidParameter', { parameter: quote(parameter) });

/** Source: systemd, varlink-io.systemd.c, the error System. */
const systemFailure = (errno: number): Answer => {
  const parameters: JsonObject = { origin: 'linux', errno, errnoName: errnoName(errno) };
  return { message: { error: 'io.systemd.System', parameters }, fds: [] };
};

const quote = (text: string): string => (text.length > QUOTED ? `${text.slice(0, QUOTED)}…` : text);
