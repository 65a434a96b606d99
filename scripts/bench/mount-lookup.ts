/**
 * The regular comparisons: `lowerdata bench` of a real directory, as an image and as a plain directory layer.
 *
 *     npm run bench [-- DIRECTORY [OPTION...]]
 *
 * lookup: an image of DIRECTORY (/usr/lib) with its objects, compared with the kernel's mount of it. verity=off is set, as the
 * kernel checks no digests either. Variants are latency=low, also with opens=none, and also with io_uring if the kernel supports
 * it.
 * directory: a plain copy of DIRECTORY above an empty directory, compared with kernel overlayfs and fuse-overlayfs. The variant
 * is latency=low.
 *
 * Each result goes into docs/performance.md, between its markers, as tables and a picture (lookup.svg, directory.svg in this folder), and
 * the whole report goes to dist/ as JSON. OPTIONs are passed to `lowerdata bench`, for example --rounds. Copies are made in a
 * temporary directory, on the filesystem of DIRECTORY if possible, and are always removed. Needs root, space for a copy of the
 * directory, and ten minutes.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BenchReport, BenchRow } from '../../src/bench/report.ts';
import { table } from '../../src/bench/table.ts';
import { uringObstacle } from '../../src/fuse/uring.ts';

const packageFolder = new URL('../../../', import.meta.url).pathname;
const command = join(packageFolder, 'dist/src/cli/main.js');
const DEFAULTS = ['--rounds', '5', '--clients', '1,2,4,8'];
const WORKLOADS = 'walk,stat,stat-again,miss,miss-again,open,open-again,read,read-again,sequential,random,mmap';

interface Comparison {
  readonly name: 'lookup' | 'directory';
  /** Prepares the subject in an empty directory. @returns its stack */
  readonly prepare: (directory: string, place: string) => Promise<string>;
  readonly options: readonly string[];
}

const comparisons: readonly Comparison[] = [
  {
    name: 'lookup',
    prepare: async (directory, place) => {
      await run('node', [command, 'mkfs', `--digest-store=${place}/objects`, directory, `${place}/image`]);
      return `${place}/image::${place}/objects`;
    },
    options: ['-o', 'verity=off', '--targets', 'lowerdata,kernel', ...variants()],
  },
  {
    name: 'directory',
    prepare: async (directory, place) => {
      mkdirSync(`${place}/empty`); // overlayfs needs at least two layers
      await run('cp', ['-a', '--reflink=auto', directory, `${place}/tree`]);
      return `${place}/tree:${place}/empty`;
    },
    options: ['-o', 'verity=off', '--targets', 'lowerdata,kernel,fuse-overlayfs', '--with', 'low=latency=low'],
  },
];

/** Options for further variants of this driver. */
function variants(): string[] {
  const always = ['--with', 'low=latency=low', '--with', 'low,none=latency=low,opens=none'];
  const obstacle = uringObstacle();
  if (obstacle === undefined) return [...always, '--with', 'low,uring=latency=low,transport=uring'];
  console.error(`Without transport=uring: ${obstacle}`);
  return always;
}

/** The running child, and the signal after which no more children are started. */
let child: ChildProcess | undefined;
let ended: NodeJS.Signals | undefined;

/**
 * Runs a program to its end. @returns its output; a failure is accepted if there is output, as for a report with a failed target
 */
async function run(program: string, args: readonly string[]): Promise<string> {
  if (ended) throw new Error(ended);
  child = spawn(program === 'node' ? process.execPath : program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const pieces: Buffer[] = [];
  child.stdout?.on('data', piece => pieces.push(piece));
  const [status] = await once(child, 'close');
  child = undefined;
  if (ended) throw new Error(ended);
  if (status !== 0 && pieces.length === 0) throw new Error(`${program} ${args.join(' ')}: exit status ${status}`);
  return Buffer.concat(pieces).toString();
}

async function compare(
  { name, prepare, options }: Comparison,
  directory: string,
  more: readonly string[],
): Promise<void> {
  const device = statSync(directory).dev;
  const parent = [tmpdir(), '/var/tmp'].find(path => statSync(path).dev === device) ?? tmpdir();
  const place = mkdtempSync(join(parent, 'lowerdata-bench-'));
  try {
    const stack = await prepare(directory, place);
    const svg = join(packageFolder, 'scripts/bench', `${name}.svg`);
    const all = [...options, ...DEFAULTS, '--workloads', WORKLOADS, ...more, '--svg', svg, '--json'];
    const report = JSON.parse(await run('node', [command, 'bench', stack, ...all])) as BenchReport;
    writeFileSync(join(packageFolder, `dist/bench-${name}.json`), `${JSON.stringify(report, undefined, 2)}\n`);
    console.log([`${name}: ${directory}`, '', ...table(report), ''].join('\n'));
    writeInto(join(packageFolder, 'docs/performance.md'), name, [...section(name, directory, report)].join('\n'));
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}

/** Replaces the text between two marker lines. */
function writeInto(file: string, name: string, text: string): void {
  const [begin, end] = [`<!-- bench ${name}: written by npm run bench -->\n`, `\n<!-- end of bench ${name} -->`];
  const before = readFileSync(file, 'utf8');
  const [at, until] = [before.indexOf(begin), before.indexOf(end)];
  if (at < 0 || until < at) throw new Error(`${file}: no ${begin.trim()} with ${end.trim()} after it`);
  writeFileSync(file, `${before.slice(0, at + begin.length)}${text}${before.slice(until)}`);
}

const number = (value: number): string => value.toLocaleString('en');

/** The columns of a table that a page shows without scrolling, besides the first. */
const COLUMNS_MAX = 5;

/** What a table shows of a target's rows for one workload, one for each number of clients. */
type Cell = (rows: readonly BenchRow[]) => string;
const microseconds: Cell = ([row]) => (row ? row.microseconds.p50.toFixed(row.microseconds.p50 < 10 ? 2 : 1) : '');
const milliseconds: Cell = ([row]) => (row ? (row.seconds * 1000).toFixed(0) : '');
const thousands: Cell = rows =>
  rows.map(({ operations, seconds }) => number(Number((operations / seconds / 1000).toPrecision(3)))).join(', ');

/** What docs/performance.md says of a report: what was measured where, tables for each quantity, and a picture. */
function* section(name: string, directory: string, report: BenchReport): Generator<string> {
  const { machine, rounds, entries, directories, rows } = report;
  yield `${directory}, ${number(entries)} names in ${number(directories)} directories; rounds: ${rounds}; ${machine.processor}, ${machine.processors}`;
  yield `processors, Linux ${machine.kernel}, Node ${machine.node.slice(1)}.`;
  const clients = [...new Set(rows.map(row => row.clients))];
  const alone = { ...report, rows: rows.filter(row => row.clients === clients[0]) };
  yield* tables('µs of one operation (*p50*), one client', alone, microseconds);
  yield* tables('ms of a whole pass (*all*), one client', alone, milliseconds);
  const together = `Thousands of operations a second, by ${clients.join(', ')} clients together`;
  if (clients.length > 1) yield* tables(together, report, thousands);
  for (const { name: target, error } of report.targets) if (error !== undefined) yield `\n${target} failed: ${error}`;
  const shown = report.targets.map(target => target.name).filter(target => rows.some(row => row.target === target));
  yield `\n![Times of one operation, and ratios: ${shown.join(', ')}](../scripts/bench/${name}.svg)`;
}

const code = (name: string): string => `\`${name}\``;

/** One quantity: a table for all workloads that the same targets have, on its side where there are many targets. */
function* tables(title: string, { rows, workloads, targets }: BenchReport, cell: Cell): Generator<string> {
  const find = (workload: string, target: string) =>
    rows.filter(row => row.workload === workload && row.target === target);
  const groups = new Map<string, { workloads: string[]; targets: string[] }>();
  for (const { name: workload } of workloads) {
    const having = targets.map(({ name }) => name).filter(target => find(workload, target).length > 0);
    const group = groups.get(having.join('\n')) ?? { workloads: [], targets: having };
    group.workloads.push(workload);
    groups.set(having.join('\n'), group);
  }
  yield `\n${title}:`;
  for (const { workloads, targets } of groups.values()) {
    const upright = targets.length <= COLUMNS_MAX;
    const across = upright ? targets : workloads.map(code);
    yield `\n| ${upright ? 'workload' : 'target'} | ${across.join(' | ')} |`;
    yield `| --- | ${across.map(() => '---:').join(' | ')} |`;
    for (const workload of upright ? workloads : [])
      yield `| ${code(workload)} | ${targets.map(target => cell(find(workload, target))).join(' | ')} |`;
    for (const target of upright ? [] : targets)
      yield `| ${target} | ${workloads.map(workload => cell(find(workload, target))).join(' | ')} |`;
  }
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => {
    ended = signal;
    child?.kill(signal);
  });
const [directory = '/usr/lib', ...more] = process.argv.slice(2);
try {
  for (const comparison of comparisons) await compare(comparison, directory, more);
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = ended ? 128 + constants.signals[ended] : 1;
}
