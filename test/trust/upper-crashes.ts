/**
 * The daemon of a writable mount is killed in the middle of random changes, again and again: `LOWERDATA_HAMMER=60` for as many
 * seconds.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import { packageFolder } from '../fixtures/mounts/mounted.ts';
import { withoutWritableOverlay } from '../fixtures/mounts/writable.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';

const SECONDS = Number(process.env.LOWERDATA_HAMMER ?? 9);
const program = join(packageFolder, 'test', 'fixtures', 'mounts', 'crash.py');
const command = [join(packageFolder, 'bin', 'lowerdata'), 'mount'];
const seed = process.env.LOWERDATA_HAMMER ? Date.now() % 100_000 : 1;

t.setTimeout(SECONDS * 1000 + 120_000);

t.test('each change is there or not', { skip: withoutWritableOverlay }, t =>
  withScratchAsync(async home => {
    const args = [program, home, `${seed}`, `${SECONDS}`, ...command];
    const { status, stdout, stderr } = spawnSync('python3', args, { encoding: 'utf8', cwd: '/' });
    if (status !== 0) spawnSync('umount', ['-l', join(home, 'merged')]);
    t.equal(status, 0, `seed ${seed}: ${stderr}`);
    t.match(stdout, /^[1-9]\d* \d+$/m, `trees before and after the change under way: ${stdout}`);
  }),
);
