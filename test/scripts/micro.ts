/** Proves scripts/bench/micro.ts: that it tells a slower function from one that is not. Times themselves prove nothing. */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { packageFolder } from '../fixtures/mounts/mounted.ts';

const script = join(packageFolder, 'dist/scripts/bench/micro.js');
const names = ['image-lookup', 'directory-lookup', 'readdirplus-entry', 'merkle-root', 'option-parse'];
const file = join(t.testdir({}), 'baseline.json');
const run = (...args: string[]) =>
  spawnSync(process.execPath, [script, '--processes', '1', '--baseline', file, ...args], { encoding: 'utf8' });
const write = (baselines: object): void => writeFileSync(file, JSON.stringify(baselines));

t.test('verdicts', async t => {
  for (const [rule, baselines, status, line] of [
    ['a low baseline', { 'option-parse': { ratio: 1e-9, tolerance: 0.5 } }, 1, /^option-parse .* SLOWER$/m],
    ['a high baseline', { 'option-parse': { ratio: 1e9, tolerance: 0.5 } }, 0, /^option-parse .* \+50 %$/m],
    ['a low baseline that tolerates it', { 'option-parse': { ratio: 1, tolerance: 1e9 } }, 0, /^option-parse .* %$/m],
    ['no baseline', {}, 1, /^option-parse .* no baseline$/m],
  ] as const) {
    write(baselines);
    const result = run('option-parse');
    t.equal(result.status, status, `${rule}: status`);
    t.match(result.stderr, line, rule);
  }
  t.match(run('x'), { status: 2, stderr: /micro: x: not one of image-lookup, / }, 'an unknown function');
});

t.test('what is recorded', async t => {
  write({ 'option-parse': { ratio: 1e-9, tolerance: 0.7 } });
  const result = run('--record', 'option-parse');
  t.equal(result.status, 0);
  const { ratio } = JSON.parse(result.stdout).results['option-parse'];
  const recorded = { ratio: Number(ratio.toPrecision(3)), tolerance: 0.7 };
  t.strictSame(JSON.parse(readFileSync(file, 'utf8')), { 'option-parse': recorded }, 'the ratio; the tolerance stays');
  const own = JSON.parse(readFileSync(join(packageFolder, 'scripts/bench/baseline.json'), 'utf8'));
  t.strictSame(Object.keys(own), names, 'every function has a baseline in the repository');
});
