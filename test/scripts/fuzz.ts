/**
 * Runs each target of scripts/fuzz for some seconds, by a new seed each time, and replays what failed once: the files of
 * test/fixtures/should-fail, each named for its defect.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { fuzz, replay, type TargetName, targets } from '../../scripts/fuzz/run.ts';
import { goldenFolder } from '../fixtures/images/golden-images.ts';

const SECONDS = 60;

const names = Object.keys(targets) as TargetName[];
const kept = join(goldenFolder, '..', 'should-fail');

t.test('what failed once', async t => {
  t.strictSame(
    readdirSync(kept).filter(name => !(name in targets)),
    [],
    'each folder is that of a target',
  );
  for (const name of readdirSync(kept) as TargetName[])
    for (const file of readdirSync(join(kept, name))) {
      const failure = await replay(name, new Uint8Array(readFileSync(join(kept, name, file))));
      t.equal(failure?.message, undefined, `${name}: ${file}`);
    }
});

t.test('new inputs', { timeout: 4 * SECONDS * 1000 }, async t => {
  const seed = Date.now() % 1e9;
  for (const name of names) {
    const { cases, failure } = await fuzz(name, seed, SECONDS / names.length);
    const again = `node dist/scripts/fuzz/main.js --seed ${seed} ${name}`;
    t.comment(`${name}: ${cases} cases; again: ${again}`);
    t.ok(cases > 0, `${name}: some`);
    if (failure === undefined) continue;
    const file = join(tmpdir(), `lowerdata-fuzz-${name}-${seed}`);
    writeFileSync(file, failure.input);
    t.fail(`case ${cases} of \`${again}\`, kept as ${file}: ${failure.message}`);
  }
});
t.end();
