/** What each user has at the moment. */

export class Users {
  private readonly users = new Map<number, User>();
  private readonly callsMax: number;

  /** @param callsMax how many calls of a user are handled at the same time */
  constructor(callsMax: number) {
    this.callsMax = callsMax;
  }

  /** The user with this ID, remembered while there is a connection or a call. */
  of(uid: number): User {
    const known = this.users.get(uid);
    if (known) return known;
    const user = new User(this.callsMax, () => this.users.delete(uid));
    this.users.set(uid, user);
    return user;
  }
}

export class User {
  connections = 0;
  /** Descriptors that came from the user, and are neither taken nor closed. */
  descriptors = 0;
  private calls = 0;
  private readonly waiting: (() => void)[] = [];
  private readonly callsMax: number;
  private readonly onGone: () => void;

  /** @param onGone called when there is neither a connection nor a call */
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

  private forgetUnused(): void {
    if (this.connections + this.calls === 0) this.onGone();
  }
}
