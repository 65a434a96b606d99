/**
 * The standing comparison: `lowerdata bench` of an image of a real directory, this driver beside the kernel.
 *
 *     npm run bench [-- DIRECTORY [FILE]]
 *
 * Makes an image of DIRECTORY (/usr/lib) with its objects in a temporary directory, on the same filesystem where it can, and
 * measures it with one client and with two. Digests are left alone (verity=off): the kernel checks none either. The table goes
 * to standard output, JSON to FILE (dist/bench.json). Needs root, room for a copy of the directory, and three minutes.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BenchReport } from '../../src/cli/bench-report.ts';
import { table } from '../../src/cli/bench-table.ts';

const ROUNDS = 5;
const CLIENTS = '1,2';
const OPTIONS = 'verity=off';

const packageFolder = new URL('../../../', import.meta.url).pathname;

/** What the command prints; it may end with 1 where there is a report of a target that failed. */
function lowerdata(...args: string[]): string {
  const command = join(packageFolder, 'dist/src/cli/main.js');
  const { status, stdout } = spawnSync(process.execPath, [command, ...args], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 1 << 26,
  });
  if (status !== 0 && !stdout) throw new Error(`lowerdata ${args.join(' ')}: exit status ${status}`);
  return stdout;
}

function measure(directory: string, home: string): BenchReport {
  const [image, objects] = [join(home, 'image'), join(home, 'objects')];
  lowerdata('mkfs', `--digest-store=${objects}`, directory, image);
  const options = ['-o', OPTIONS, '--rounds', String(ROUNDS), '--clients', CLIENTS, '--json'];
  return JSON.parse(lowerdata('bench', `${image}::${objects}`, ...options));
}

const [directory = '/usr/lib', file = join(packageFolder, 'dist/bench.json')] = process.argv.slice(2);
const device = statSync(directory).dev;
const parent = [tmpdir(), '/var/tmp'].find(path => statSync(path).dev === device) ?? tmpdir();
const home = mkdtempSync(join(parent, 'lowerdata-bench-'));
process.on('SIGINT', () => {}); // the command that runs ends of it, and then this program
try {
  const report = measure(directory, home);
  writeFileSync(file, `${JSON.stringify(report, undefined, 2)}\n`);
  console.log(
    `${directory}: ${report.entries} names in ${report.directories} directories; ${report.machine.processor}\n`,
  );
  console.log([...table(report), '', `JSON: ${file}`].join('\n'));
} finally {
  rmSync(home, { recursive: true, force: true });
}
