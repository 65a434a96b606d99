/** A varlink service at a Unix stream socket. Each client may be hostile: see `limits.ts`. */

import { openSparing } from '../../sys/descriptors.ts';
import { attempt, EAGAIN, ECONNABORTED, EINTR, ERANGE, ErrnoError, errnoText, must } from '../../sys/errno.ts';
import { native } from '../../sys/native.ts';
import { EPOLLIN, type Readiness } from '../../sys/sockets/readiness.ts';
import { Connection } from './connection.ts';
import { type About, Dispatcher } from './dispatch.ts';
import type { Implementation, Peer } from './implementation.ts';
import { LIMITS, type Limits } from './limits.ts';
import { limitedLog } from './log.ts';
import { Users } from './users.ts';

const O_NONBLOCK = 0o4000;
/** How many connections are accepted before others have their turn. */
const ACCEPTED_AT_ONCE = 16;

interface Listening {
  readonly fd: number;
  readonly readiness: Readiness;
  pause?: NodeJS.Timeout | undefined;
}

export class VarlinkServer {
  private readonly dispatcher: Dispatcher;
  private readonly limits: Limits;
  private readonly log: (line: string) => void;
  private readonly connections = new Set<Connection>();
  private readonly users: Users;
  private listening: Listening | undefined;

  /**
   * @param log is given a line for each call that failed unexpectedly, and for each client that breaks the rules
   */
  constructor(
    about: About,
    implementations: readonly Implementation[],
    log: (line: string) => void = () => {},
    limits: Limits = LIMITS,
  ) {
    this.log = limitedLog(log, limits.logLines);
    this.dispatcher = new Dispatcher(about, implementations, this.log);
    this.limits = limits;
    this.users = new Users(limits.userCalls);
  }

  /**
   * Serves the clients that connect to a listening socket, until `close`.
   * @param fd a descriptor that becomes the server's; see `listen.ts`
   */
  listen(fd: number, readiness: Readiness): void {
    native.setStatusFlags(fd, O_NONBLOCK);
    const listening: Listening = { fd, readiness };
    readiness.add(fd, EPOLLIN, () => this.acceptSome(listening));
    this.listening = listening;
  }

  /** Ends the service and all connections. */
  close(): void {
    const { listening } = this;
    this.listening = undefined;
    if (listening) {
      clearTimeout(listening.pause);
      if (!listening.pause) listening.readiness.remove(listening.fd);
      native.close(listening.fd);
    }
    for (const connection of this.connections) connection.close();
  }

  private acceptSome(listening: Listening): void {
    for (let i = 0; i < ACCEPTED_AT_ONCE && this.listening; i++) {
      const fd = openSparing(() => native.accept(listening.fd));
      if (fd >= 0) this.welcome(fd, listening.readiness);
      else if (fd === -EAGAIN) return;
      else if (fd !== -EINTR && fd !== -ECONNABORTED) {
        this.pause(listening, fd);
        return;
      }
    }
  }

  /** Lets clients wait. Otherwise the listening socket would stay ready and take all time. */
  private pause(listening: Listening, errno: number): void {
    this.log(`no connection can be accepted: ${errnoText(errno)}`);
    listening.readiness.remove(listening.fd);
    listening.pause = setTimeout(() => {
      listening.pause = undefined;
      listening.readiness.add(listening.fd, EPOLLIN, () => this.acceptSome(listening));
    }, this.limits.acceptPauseMs);
  }

  private welcome(fd: number, readiness: Readiness): void {
    const connected = attempt(() => this.connect(fd, readiness));
    if (connected instanceof ErrnoError) this.log(`a connection: ${connected.message}`);
    if (!connected || connected instanceof ErrnoError) native.close(fd);
  }

  /** @returns whether the client may have a connection */
  private connect(fd: number, readiness: Readiness): boolean {
    const peer = peerOf(fd);
    const isFull = peer.uid !== 0 && this.connections.size >= this.limits.connections;
    const user = this.users.of(peer.uid);
    user.connections++;
    if (isFull || user.connections > this.limits.userConnections) {
      user.endConnection();
      return false;
    }
    const host = { limits: this.limits, readiness, dispatcher: this.dispatcher, log: this.log };
    const onClosed = (connection: Connection): void => {
      this.connections.delete(connection);
      user.endConnection();
    };
    try {
      this.connections.add(new Connection(fd, peer, user, { ...host, onClosed }));
    } catch (error) {
      user.endConnection();
      throw error;
    }
    return true;
  }
}

function peerOf(fd: number): Peer {
  const credentials = new Uint32Array(3);
  must(native.peerCredentials(fd, new Int32Array(credentials.buffer)), 'SO_PEERCRED');
  const [pid = 0, uid = 0, gid = 0] = credentials;
  return { pid, uid, gid, groups: groupsOf(fd) };
}

/** Most users have fewer groups; the kernel allows 65,536. */
const GROUPS_FIRST = 32;
const GROUPS_MAX = 1 << 16;

function groupsOf(fd: number): number[] {
  for (const size of [GROUPS_FIRST, GROUPS_MAX]) {
    const groups = new Uint32Array(size);
    const count = native.peerGroups(fd, new Int32Array(groups.buffer));
    if (count !== -ERANGE) return [...groups.subarray(0, must(count, 'SO_PEERGROUPS'))];
  }
  throw new ErrnoError(ERANGE, 'SO_PEERGROUPS');
}
