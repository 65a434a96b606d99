/** The thread that makes and checks inputs. */
import { parentPort, workerData } from 'node:worker_threads';
import { type Failure, NOTED_INPUT_AT, type Order, type Outcome, targets } from './run.ts';
import { Random } from './target.ts';

const { target, seed, seconds, only, notes } = workerData as Order;
const { make, check } = targets[target];
const counter = new Int32Array(notes, 0, 2);
const noted = new Uint8Array(notes, NOTED_INPUT_AT);

/** Checks an input, after recording it in the notes. */
async function attempt(input: Uint8Array): Promise<Failure | undefined> {
  noted.set(input.subarray(0, noted.length));
  Atomics.store(counter, 1, Math.min(input.length, noted.length));
  Atomics.add(counter, 0, 1);
  try {
    await check(input);
  } catch (error) {
    const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { input: new Uint8Array(input), message };
  }
  return undefined;
}

async function run(): Promise<Outcome> {
  if (only) return { cases: 1, failure: await attempt(only) };
  const end = performance.now() + seconds * 1000;
  let cases = 0;
  let failure: Failure | undefined;
  for (; failure === undefined && performance.now() < end; cases++)
    failure = await attempt(make(new Random(seed, cases)));
  return { cases, failure };
}

parentPort?.postMessage(await run());
