/**
 * Fuzzes the code that parses foreign bytes: images, dumps, mount options, overlay xattrs, FUSE requests, tar archives,
 * splitstreams, and signatures.
 *
 *     npm run build && node dist/scripts/fuzz/main.js [--seconds N] [--seed N] [TARGET]...
 *     node dist/scripts/fuzz/main.js --replay FILE TARGET
 *
 * Each TARGET (images, dumps, options, stacks, requests, archives, streams, seals; all by default) runs for N seconds (60). The seed
 * is printed, and reproduces the same inputs. A failing input is kept in a file; its path is printed with the reason, and the status
 * is 1. An input worth keeping goes to test/fixtures/should-fail/TARGET, named for its defect; test/scripts/fuzz.ts replays it.
 */
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { fuzz, replay, type TargetName, targets } from './run.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: 'string', default: '60' },
    seed: { type: 'string', default: String(Date.now() % 1e9) },
    replay: { type: 'string' },
  },
});

const unknown = positionals.find(name => !(name in targets));
if (unknown !== undefined) refuse(`${unknown}: not one of ${Object.keys(targets).join(', ')}`);
for (const name of ['seconds', 'seed'] as const)
  if (!/^\d{1,9}$/.test(values[name])) refuse(`--${name}=${values[name]}: not a number of one to nine digits`);
const names = (positionals.length > 0 ? positionals : Object.keys(targets)) as TargetName[];

if (values.replay === undefined) {
  for (const name of names) await run(name, Number(values.seed), Number(values.seconds));
} else {
  const [name, ...others] = names as [TargetName];
  if (others.length > 0) refuse('--replay: name the target of the file');
  const failure = await replay(name, new Uint8Array(readFileSync(values.replay)));
  console.log(`${name}: ${failure?.message ?? 'all holds'}`);
  process.exitCode = failure ? 1 : 0;
}

function refuse(why: string): never {
  console.error(why);
  process.exit(2);
}

async function run(name: TargetName, seed: number, seconds: number): Promise<void> {
  const { cases, failure } = await fuzz(name, seed, seconds);
  console.log(`${name}: ${cases} cases of seed ${seed}${failure ? '; the last one fails' : ''}`);
  if (!failure) return;
  process.exitCode = 1;
  const kept = join(mkdtempSync(join(tmpdir(), 'lowerdata-fuzz-')), name);
  writeFileSync(kept, failure.input);
  console.log(`${failure.message}\nagain: node dist/scripts/fuzz/main.js --replay ${kept} ${name}`);
}
