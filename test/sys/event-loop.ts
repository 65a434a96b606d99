/** Proves src/sys/event-loop.ts: nothing of the event loop waits while a thread sleeps beside it. */
import { execFileSync } from 'node:child_process';
import t from 'tap';

/** Shorter than what it sleeps where no event wakes it. */
const PATIENCE_MS = 30_000;
/** Some more than turns of the event loop: a thread that asks again and again does so a hundred times a millisecond. */
const SLEEPS_MAX = 50;

interface Told {
  readonly sleeps: Readonly<Record<string, number>>;
  readonly before: boolean;
  readonly after: boolean;
}

const program = new URL('../fixtures/event-sleeps.js', import.meta.url).pathname; // tap's process has events of its own
const told = execFileSync(process.execPath, [program], { encoding: 'utf8', timeout: PATIENCE_MS });
const { sleeps, before, after } = JSON.parse(told) as Told;

const events = Object.entries(sleeps);
t.same(
  events.map(([what]) => what),
  ['a promise', 'an immediate', 'a timer', 'timers, one after the other', 'a signal', 'messages of two ports'],
);
for (const [what, count] of events) t.ok(count < SLEEPS_MAX, `${what}: it sleeps, and does not ask again and again`);
t.notOk(before, 'the descriptor: nothing, in the time that was given');
t.ok(after, 'the descriptor: something to read');
t.end();
