/** How many processes work for clients at the same time: one for each user, and a number for all but root. */
import { Refusal } from '../broker/refusal.ts';

export class Slots {
  private readonly max: number;
  private readonly users = new Set<number>();

  /** @param max of all users but root */
  constructor(max: number) {
    this.max = max;
  }

  /** @returns a function to be called when the process has ended. Throws Refusal, Busy. */
  take(uid: number): () => void {
    if (this.users.has(uid)) throw new Refusal('Busy', { limit: 1 });
    if (uid !== 0 && this.users.size >= this.max) throw new Refusal('Busy', { limit: this.max });
    this.users.add(uid);
    return () => this.users.delete(uid);
  }
}
