/**
 * A connection of a client. Its calls are answered in order: the next one is not looked at, and nothing more is read, before the
 * client has taken the last reply. So a client that does not read can make the service hold two messages and their descriptors.
 */
import { ErrnoError } from '../../sys/errno.ts';
import { native } from '../../sys/native.ts';
import { EPOLLIN, EPOLLOUT, type Readiness } from '../../sys/sockets/readiness.ts';
import { Descriptors } from './descriptors.ts';
import type { Answer, Dispatcher } from './dispatch.ts';
import type { Peer } from './implementation.ts';
import { Incoming, type Message } from './incoming.ts';
import type { Limits } from './limits.ts';
import { Outgoing } from './outgoing.ts';
import { type Call, parseCall } from './protocol.ts';
import type { User } from './users.ts';

const EPOLLERR = 0x8;
const EPOLLHUP = 0x10;

/** What a connection needs of its server. */
export interface Host {
  readonly limits: Limits;
  readonly readiness: Readiness;
  readonly dispatcher: Dispatcher;
  log(line: string): void;
  /** Called once. */
  onClosed(connection: Connection): void;
}

export class Connection {
  readonly peer: Peer;
  readonly user: User;
  private readonly fd: number;
  private readonly host: Host;
  private readonly incoming: Incoming;
  private readonly outgoing: Outgoing;
  private readonly gone = new AbortController();
  private isClosed = false;
  /** Whether a call is handled, or waits for its turn. */
  private isBusy = false;
  /** Whether the client sends no more. */
  private isEnded = false;
  /** Whether the client reads no more. */
  private isHungUp = false;
  /** Whether the connection ends with the replies that wait. */
  private isLast = false;
  private watched = EPOLLIN;
  private timer: NodeJS.Timeout | undefined;
  private timedFor = '';
  private done = 0;

  /** @param fd is closed by the connection */
  constructor(fd: number, peer: Peer, user: User, host: Host) {
    this.fd = fd;
    this.peer = peer;
    this.user = user;
    this.host = host;
    this.incoming = new Incoming(fd, host.limits.messageBytes, host.limits.messageDescriptors, user);
    this.outgoing = new Outgoing(fd);
    host.readiness.add(fd, EPOLLIN, events => this.onReady(events));
    this.setTimer();
  }

  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.isHungUp = true;
    clearTimeout(this.timer);
    this.gone.abort();
    this.watch(-1);
    native.close(this.fd);
    this.incoming.close();
    this.outgoing.close();
    this.host.onClosed(this);
  }

  private onReady(events: number): void {
    if (events & (EPOLLHUP | EPOLLERR)) this.hangUp();
    this.advance();
  }

  private hangUp(): void {
    this.isHungUp = true;
    this.gone.abort();
    this.outgoing.close();
    this.watch(-1); // it would be ready forever
  }

  /** Does all that can be done now. */
  private advance(): void {
    if (this.isClosed) return;
    try {
      this.flush();
      this.takeCalls();
    } catch (error) {
      if (!(error instanceof ErrnoError)) throw error;
      this.refuse(error.message);
    }
    if (this.isClosed) return;
    if (!this.outgoing.isEmpty) this.watch(EPOLLOUT);
    else this.watch(this.isBusy || this.isEnded ? 0 : EPOLLIN);
    this.setTimer();
  }

  private takeCalls(): void {
    let hasRead = false;
    while (!this.isClosed && !this.isBusy && this.outgoing.isEmpty) {
      const message = this.isLast ? undefined : this.incoming.next();
      if (message) this.begin(message);
      else if (this.isLast || this.isEnded) this.close();
      else if (hasRead && !this.isHungUp)
        return; // it is the turn of others
      else hasRead = this.read();
    }
  }

  private refuse(reason: string): void {
    this.host.log(`process ${this.peer.pid} of user ${this.peer.uid}: ${reason}; the connection is closed`);
    this.close();
  }

  private flush(): void {
    try {
      this.done += this.outgoing.flush();
    } catch {
      this.hangUp();
    }
  }

  private read(): true {
    this.isEnded = this.incoming.read() === 'end';
    if (this.user.descriptors > this.host.limits.userDescriptors) this.refuse('its user has sent too many descriptors');
    return true;
  }

  private begin({ bytes, fds, isAmbiguous }: Message): void {
    const descriptors = new Descriptors(fds, this.user);
    let call: Call;
    try {
      call = parseCall(bytes, this.host.limits.depth);
    } catch (error) {
      void descriptors.closeAll();
      throw error;
    }
    this.isBusy = true;
    this.user.startCall(() => void this.perform(call, descriptors, isAmbiguous));
  }

  private async perform(call: Call, descriptors: Descriptors, isAmbiguous: boolean): Promise<void> {
    if (call.oneway || !this.isHungUp) {
      const circumstances = { peer: this.peer, signal: this.gone.signal, descriptors };
      const answer = await this.host.dispatcher.answer(call, {
        ...circumstances,
        send: answer => this.sendSoon(answer),
      });
      this.send(answer, call.oneway);
    }
    const closed = descriptors.closeAll();
    this.user.endCall();
    this.isLast ||= isAmbiguous && descriptors.isMissed;
    this.advance();
    await closed; // or a client could send descriptors faster than they are closed
    this.isBusy = false;
    setImmediate(() => this.advance()); // others have their turn between two calls
  }

  private sendSoon(answer: Answer): Promise<boolean> {
    return new Promise(resolve => {
      this.send(answer, false, resolve);
      this.advance();
    });
  }

  /** @param isUnwanted whether only the descriptors are closed */
  private send({ message, fds }: Answer, isUnwanted: boolean, onSent: (isSent: boolean) => void = () => {}): void {
    if (!isUnwanted && !this.isHungUp) this.outgoing.add(message, fds, onSent);
    else {
      for (const fd of new Set(fds)) native.close(fd);
      onSent(false);
    }
  }

  /** @param events negative: none, forever */
  private watch(events: number): void {
    if (events === this.watched || this.watched < 0) return;
    this.watched = events;
    if (events < 0) this.host.readiness.remove(this.fd);
    else this.host.readiness.change(this.fd, events);
  }

  /** Ends the connection when what it waits for has not come in time. */
  private setTimer(): void {
    const [what, ms] = this.waitsFor();
    if (what === this.timedFor) return;
    this.timedFor = what;
    clearTimeout(this.timer);
    if (ms !== undefined) this.timer = setTimeout(() => this.close(), ms);
  }

  private waitsFor(): [what: string, ms: number | undefined] {
    const { halfMessageMs, unreadReplyMs, idleMs } = this.host.limits;
    if (!this.outgoing.isEmpty) return [`reply ${this.done}`, unreadReplyMs];
    if (this.isBusy) return ['the call', undefined];
    if (this.incoming.isHalf) return [`message ${this.incoming.count}`, halfMessageMs];
    return [`call ${this.incoming.count}`, idleMs];
  }
}
