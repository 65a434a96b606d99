/** Runs a target on a watched thread: an input that takes too long or too much memory counts as a failure. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { archives } from './archives.ts';
import { dumps } from './dumps.ts';
import { images } from './images.ts';
import { options } from './options.ts';
import { requests } from './requests.ts';
import { seals } from './seals.ts';
import { stacks } from './stacks.ts';
import { streams } from './streams.ts';
import type { Target } from './target.ts';

export const targets = { images, dumps, options, stacks, requests, archives, streams, seals } satisfies Record<
  string,
  Target
>;
export type TargetName = keyof typeof targets;

/** An input that violated an invariant. */
export interface Failure {
  readonly input: Uint8Array;
  readonly message: string;
}

/** The order for the thread. It answers with a Failure, or with the number of cases done. */
export interface Order {
  readonly target: TargetName;
  readonly seed: number;
  readonly seconds: number;
  /** A single input to check instead of random ones. */
  readonly only?: Uint8Array;
  /** Memory in which the thread records its case number and input, in case it can no longer report them. */
  readonly notes: SharedArrayBuffer;
}

export interface Outcome {
  readonly cases: number;
  readonly failure: Failure | undefined;
}

/** The time limit for one input, which normally takes milliseconds. */
const STUCK_SECONDS = 10;
const HEAP_MEGABYTES = 400;
const MEMORY_BYTES = 2 ** 31;
export const NOTES_BYTES = 1 << 24;
/** The notes hold the case number and the input's size, 4 bytes each, and then the input. */
export const NOTED_INPUT_AT = 8;

/** Makes and checks inputs for some seconds, or until one fails. The same seed gives the same inputs. */
export function fuzz(target: TargetName, seed: number, seconds: number): Promise<Outcome> {
  return watched({ target, seed, seconds });
}

/** Checks one input. @returns the failure; undefined if there is none */
export async function replay(target: TargetName, input: Uint8Array): Promise<Failure | undefined> {
  return (await watched({ target, seed: 0, seconds: 0, only: input })).failure;
}

function watched(order: Omit<Order, 'notes'>): Promise<Outcome> {
  const notes = new SharedArrayBuffer(NOTES_BYTES);
  const home = mkdtempSync(join(tmpdir(), 'lowerdata-fuzz-'));
  const worker = new Worker(new URL('./worker.js', import.meta.url), {
    workerData: { ...order, notes } satisfies Order,
    env: { ...process.env, TMPDIR: home }, // files of a terminated thread stay in here
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MEGABYTES },
  });
  const counter = new Int32Array(notes, 0, 2);
  const noted = (message: string): Outcome => {
    const input = new Uint8Array(notes, NOTED_INPUT_AT, Atomics.load(counter, 1)).slice();
    return { cases: Atomics.load(counter, 0), failure: { input: new Uint8Array(input), message } };
  };
  return new Promise((resolve, reject) => {
    let last = -1;
    let since = performance.now();
    const watch = setInterval(() => {
      const now = Atomics.load(counter, 0);
      if (now !== last) [last, since] = [now, performance.now()];
      if (performance.now() - since > STUCK_SECONDS * 1000) end(noted(`does not end in ${STUCK_SECONDS} s`));
      if (process.memoryUsage.rss() > MEMORY_BYTES) end(noted(`takes more than ${MEMORY_BYTES} bytes of memory`));
    }, 200);
    const end = (outcome: Outcome): void => {
      clearInterval(watch);
      worker
        .terminate()
        .finally(() => rmSync(home, { recursive: true }))
        .then(() => resolve(outcome), reject);
    };
    worker.once('message', (outcome: Outcome) => end(outcome));
    worker.once('error', error => end(noted(String(error.stack ?? error))));
  });
}
