/** Descriptors that came with a message: each has one owner, and is closed unless somebody takes it. */
import { native } from '../../sys/native.ts';

/** A descriptor that a handler may use until it has replied, or take. */
export class Descriptor {
  private readonly descriptors: Descriptors;
  private readonly number: number;

  constructor(descriptors: Descriptors, number: number) {
    this.descriptors = descriptors;
    this.number = number;
  }

  get fd(): number {
    return this.number;
  }

  /** @returns the number; from now on the caller closes it */
  take(): number {
    this.descriptors.give(this.number);
    return this.number;
  }
}

/** The descriptors of one message. */
export class Descriptors {
  /** Whether the message has named one that it does not have. */
  isMissed = false;
  private readonly fds: readonly number[];
  private readonly owned: Set<number>;
  private readonly named = new Set<number>();
  private readonly onFewer: (count: number) => void;

  /** @param onFewer called when some were taken or closed, with their number */
  constructor(fds: readonly number[], onFewer: (count: number) => void = () => {}) {
    this.fds = fds;
    this.owned = new Set(fds);
    this.onFewer = onFewer;
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
    if (this.owned.delete(fd)) this.onFewer(1);
  }

  /** Closes those that the message has not named. */
  closeUnnamed(): void {
    this.close(fd => !this.named.has(fd));
  }

  closeAll(): void {
    this.close(() => true);
  }

  private close(isMeant: (fd: number) => boolean): void {
    for (const fd of [...this.owned].filter(isMeant)) {
      native.close(fd);
      this.give(fd);
    }
  }
}
