/**
 * In the middle of random changes, the daemon of a writable mount is killed, or the power goes, again and again:
 * `LOWERDATA_HAMMER=60` for as many seconds each.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { withoutExt4, withoutFilesystem } from '../fixtures/mounts/ext4.ts';
import { packageFolder } from '../fixtures/mounts/mounted.ts';
import { withoutIndex, withoutWritableOverlay } from '../fixtures/mounts/writable.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';

const SECONDS = Number(process.env.LOWERDATA_HAMMER ?? 9);
const command = [join(packageFolder, 'bin', 'lowerdata'), 'mount'];
const seed = process.env.LOWERDATA_HAMMER ? Date.now() % 100_000 : 1;

t.setTimeout(SECONDS * 3000 + 300_000);

/**
 * Runs a program of the fixtures. @param mounts places below `home` that it mounts, the last one first
 * @param options what else the program wants to know
 */
function passes(
  t: Test,
  home: string,
  program: string,
  mounts: readonly string[],
  wanted: RegExp,
  ...options: readonly string[]
): void {
  const file = join(packageFolder, 'test', 'fixtures', 'mounts', program);
  const args = [file, home, `${seed}`, `${SECONDS}`, ...options, ...command];
  const { status, stdout, stderr } = spawnSync('python3', args, { encoding: 'utf8', cwd: '/' });
  if (status !== 0) for (const name of mounts) spawnSync('umount', ['-l', join(home, name)]);
  t.equal(status, 0, `seed ${seed}: ${stderr}`);
  t.match(stdout, wanted, `how many were looked at: ${stdout}`);
}

for (const [rule, index, skip] of [
  ['each change is there or not after a kill', 'off', withoutWritableOverlay],
  ['so is each change of files with several names', 'on', withoutWritableOverlay || withoutIndex],
] as const)
  t.test(rule, { skip }, t =>
    withScratchAsync(async home => passes(t, home, 'crash.py', ['merged'], /^[1-9]\d* \d+$/m, index)),
  );

const withoutDisks = withoutWritableOverlay || withoutExt4 || withoutFilesystem('xfs');

t.test('no byte of a lower file is lost with the power', { skip: withoutDisks }, t =>
  withScratchAsync(async home => passes(t, home, 'power.py', ['merged', 'disk', 'host'], /^[1-9]\d*$/m)),
);
