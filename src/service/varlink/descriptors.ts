/** Descriptors that came with a message: each has one owner, and is closed unless somebody takes it. */
import { EBADF, ErrnoError } from '../../sys/errno.ts';
import { native } from '../../sys/native.ts';

/** Closes descriptors that came, and counts them. */
export interface Keeper {
  /** A message came with so many. */
  came(count: number): void;
  /** One has a new owner. */
  gave(): void;
  /** @param onClosed called when it is closed, which may be later */
  close(fd: number, onClosed?: () => void): void;
}

/** For descriptors whose sender is trusted. */
export const plainKeeper: Keeper = {
  came: () => {},
  gave: () => {},
  close: (fd, onClosed) => {
    native.close(fd);
    onClosed?.();
  },
};

/** A descriptor that a handler may use until it has replied, or take. */
export class Descriptor {
  private readonly descriptors: Descriptors;
  private readonly number: number;

  constructor(descriptors: Descriptors, number: number) {
    this.descriptors = descriptors;
    this.number = number;
  }

  /** Throws ErrnoError, EBADF, when it was taken or closed: the number may be that of another one. */
  get fd(): number {
    if (!this.descriptors.owns(this.number)) throw new ErrnoError(EBADF, 'a descriptor of a message was closed before');
    return this.number;
  }

  /** @returns the number; from now on the caller closes it */
  take(): number {
    const { fd } = this;
    this.descriptors.give(fd);
    return fd;
  }
}

/** The descriptors of one message. */
export class Descriptors {
  /** Whether the message has named one that it does not have. */
  isMissed = false;
  private readonly fds: readonly number[];
  private readonly owned: Set<number>;
  private readonly named = new Set<number>();
  private readonly keeper: Keeper;
  /** How many are being closed. */
  private closing = 0;
  private onClosed = (): void => {};

  constructor(fds: readonly number[], keeper: Keeper) {
    this.fds = fds;
    this.owned = new Set(fds);
    this.keeper = keeper;
  }

  owns(fd: number): boolean {
    return this.owned.has(fd);
  }

  /** @returns the descriptor at a place; undefined if there is none, or if the message has named it before */
  at(place: number): Descriptor | undefined {
    const fd = this.fds[place];
    this.isMissed ||= fd === undefined;
    if (fd === undefined || this.named.has(fd)) return undefined;
    this.named.add(fd);
    return new Descriptor(this, fd);
  }

  /** Leaves a descriptor to somebody else. */
  give(fd: number): void {
    if (this.owned.delete(fd)) this.keeper.gave();
  }

  /** Closes those that the message has not named. */
  closeUnnamed(): void {
    this.close(fd => !this.named.has(fd));
  }

  /** Closes all that was not taken, and waits until they are closed. */
  async closeAll(): Promise<void> {
    this.close(() => true);
    if (this.closing > 0)
      await new Promise<void>(resolve => {
        this.onClosed = resolve;
      });
  }

  private close(isMeant: (fd: number) => boolean): void {
    for (const fd of [...this.owned].filter(isMeant)) {
      this.owned.delete(fd);
      this.closing++;
      this.keeper.close(fd, () => {
        if (--this.closing === 0) this.onClosed();
      });
    }
  }
}
