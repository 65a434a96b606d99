/** What each user has at the moment. */
import { close } from 'node:fs';
import type { Keeper } from './descriptors.ts';

export class Users {
  private readonly users = new Map<number, User>();
  private readonly callsMax: number;

  /** @param callsMax how many calls of a user are handled at the same time */
  constructor(callsMax: number) {
    this.callsMax = callsMax;
  }

  /** The user with this ID, remembered while it has something. */
  of(uid: number): User {
    const known = this.users.get(uid);
    if (known) return known;
    const user = new User(this.callsMax, () => this.users.delete(uid));
    this.users.set(uid, user);
    return user;
  }
}

export class User implements Keeper {
  connections = 0;
  /** Descriptors that came from the user, and are neither taken nor closed. */
  descriptors = 0;
  private calls = 0;
  private readonly waiting: (() => void)[] = [];
  private readonly closing: { readonly fd: number; readonly onClosed?: (() => void) | undefined }[] = [];
  private readonly callsMax: number;
  private readonly onGone: () => void;

  /** @param onGone called when it has nothing any more */
  constructor(callsMax: number, onGone: () => void) {
    this.callsMax = callsMax;
    this.onGone = onGone;
  }

  endConnection(): void {
    this.connections--;
    this.forgetUnused();
  }

  /** Starts a call as soon as the user may have one more. `endCall` must follow. */
  startCall(start: () => void): void {
    if (this.calls === this.callsMax) {
      this.waiting.push(start);
      return;
    }
    this.calls++;
    start();
  }

  endCall(): void {
    const next = this.waiting.shift();
    if (!next) this.calls--;
    next?.();
    this.forgetUnused();
  }

  came(count: number): void {
    this.descriptors += count;
  }

  gave(): void {
    this.descriptors--;
    this.forgetUnused();
  }

  /**
   * Closes a descriptor, on another thread: close(2) of a client's file waits for the server of its filesystem (FUSE_FLUSH), and
   * that of a socket for its peer (SO_LINGER). One at a time, so that a user does not occupy all of the threads; those that wait
   * count for the user.
   */
  close(fd: number, onClosed?: () => void): void {
    if (this.closing.push({ fd, onClosed }) === 1) this.closeNext();
  }

  private closeNext(): void {
    const [next] = this.closing;
    if (!next) return;
    close(next.fd, () => {
      this.closing.shift();
      this.gave();
      next.onClosed?.();
      this.closeNext();
    });
  }

  private forgetUnused(): void {
    if (this.connections + this.calls + this.descriptors === 0) this.onGone();
  }
}
