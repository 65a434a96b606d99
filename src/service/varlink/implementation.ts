/** What a service does when a method of an interface is called. */
import type { ErrorTypes, Interface, Method, Methods } from './interface.ts';
import type { varlinkService } from './service.ts';
import type { Received, Sent } from './types.ts';

/** Who has connected. Source: unix(7), SO_PEERCRED; linux/net/core/sock.c, SO_PEERGROUPS. */
export interface Peer {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups. */
  readonly groups: readonly number[];
}

/** The reply that a call failed. */
export class Failure {
  readonly error: string;
  readonly holds: object;
  /** @param error its name; without a dot, it is one of the interface */
  constructor(error: string, holds: object) {
    this.error = error;
    this.holds = holds;
  }
}

type Errors<E extends ErrorTypes> = E &
  Pick<(typeof varlinkService)['errors'], 'InvalidParameter' | 'PermissionDenied'>;

export interface CallContext<M extends Method = Method, E extends ErrorTypes = ErrorTypes> {
  readonly peer: Peer;
  /** Aborted when the client is gone. */
  readonly signal: AbortSignal;
  /** Makes the reply that the call failed, to be returned. */
  fail<N extends keyof Errors<E> & string>(error: N, holds: Sent<Errors<E>[N]['holds']>): Failure;
  /**
   * Sends a reply that others follow, for a method with `isStream`. Its descriptors are closed.
   * @returns whether it was sent; false if the client is gone. Wait for it before the next one.
   */
  send(reply: Sent<M['gives']>): Promise<boolean>;
}

/**
 * Handles a call. Descriptors among the parameters are closed when it is done, unless it takes them; descriptors in its reply are
 * closed when they are sent. What it throws is logged, and answered with the errno.
 */
export type Handler<M extends Method = Method, E extends ErrorTypes = ErrorTypes> = (
  parameters: Received<M['takes']>,
  call: CallContext<M, E>,
) => Sent<M['gives']> | Failure | Promise<Sent<M['gives']> | Failure>;

/** Methods without a handler are answered with MethodNotImplemented. */
export type Handlers<M extends Methods, E extends ErrorTypes> = { readonly [N in keyof M]?: Handler<M[N], E> };

export interface Implementation {
  readonly interface: Interface;
  readonly handlers: ReadonlyMap<string, Handler>;
}

export const implement = <M extends Methods, E extends ErrorTypes>(
  described: Interface<M, E>,
  handlers: Handlers<M, E>,
): Implementation => ({ interface: described, handlers: new Map(Object.entries(handlers)) as Map<string, never> });
