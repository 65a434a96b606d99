/** Proves src/fuse/pause.ts: that it waits in the way that is shorter, in simulated worlds whose clock moves with what is done. */
import t from 'tap';
import { Pause } from '../../src/fuse/pause.ts';

/** A client whose next request comes some time after the answer, which depends on what its CPU does meanwhile. */
class World {
  readonly pause = new Pause(
    ms => this.sleep(ms),
    undefined,
    () => this.ms,
  );
  polls = 0;
  sleeps = 0;
  private ms = 1;
  /** When the next request is there; infinite until the client has run. */
  private due = 0;
  /** Whether other work keeps the CPUs busy: the client runs only while the server sleeps, and waking costs nothing. */
  isBusy: boolean;

  constructor(isBusy: boolean) {
    this.isBusy = isBusy;
  }

  /** Waits for one request, as a session does. @returns how long that took, in milliseconds */
  request(): number {
    const before = this.ms;
    this.due = this.isBusy ? Number.POSITIVE_INFINITY : this.ms + 0.02;
    while (this.ms < this.due) {
      this.ms += 0.001;
      if (this.ms >= this.due) break;
      this.polls++;
      if (!this.pause.again()) this.pause.rest();
    }
    this.pause.end();
    return this.ms - before;
  }

  private sleep(ms: number): boolean {
    this.sleeps++;
    const wakes = this.isBusy ? this.ms + 0.015 : Math.max(this.due, this.ms) + 0.03;
    const isInTime = ms < 0 || wakes <= this.ms + ms;
    this.ms = isInTime ? wakes : this.ms + ms;
    if (this.isBusy) this.due = this.ms;
    return isInTime;
  }

  /** The mean of many requests, in microseconds. */
  mean(count: number): number {
    let sum = 0;
    for (let i = 0; i < count; i++) sum += this.request();
    return (1000 * sum) / count;
  }
}

t.test('an idle machine: it polls', async t => {
  const world = new World(false);
  t.ok(world.mean(1000) < 23, 'and has the request when it is there');
  t.ok(world.sleeps <= 1000 / 100, `${world.sleeps} of 1,000 pauses were asleep`);
});

t.test('a busy machine: it sleeps, so that the client runs', async t => {
  const world = new World(true);
  world.mean(2000); // to learn
  const polls = world.polls;
  t.ok(world.mean(1000) < 20, 'and does not wait for the end of polling');
  t.ok(world.polls - polls < 2000, `${world.polls - polls} polls in 1,000 pauses`);
});

t.test('a machine that becomes busy, and idle again', async t => {
  const world = new World(false);
  world.mean(1000);
  world.isBusy = true;
  world.mean(2000);
  t.ok(world.mean(1000) < 20, 'busy');
  world.isBusy = false;
  world.mean(5000);
  t.ok(world.mean(1000) < 23, 'idle');
});

t.test('no request for long', async t => {
  const sleeps: number[] = [];
  let ms = 1;
  const pause = new Pause(
    limit => {
      sleeps.push(limit);
      ms += limit < 0 ? 10_000 : limit;
      return limit < 0;
    },
    undefined,
    () => ms,
  );
  for (let i = 0; i < 300; i++) {
    while (pause.again()) ms += 0.001;
    pause.rest();
    pause.end();
  }
  t.equal(
    sleeps.filter(limit => limit < 0).length,
    300,
    'it sleeps without a limit, after the event loop had its turn',
  );
  ms += 1;
  let polls = 0;
  while (pause.again()) polls++;
  t.ok(polls <= 1, 'and polls no more');
});
