/**
 * The regular comparisons: `lowerdata bench` of a real directory, as an image and as a plain directory layer.
 *
 *     npm run bench [-- [--only NAME] DIRECTORY [OPTION...]]
 *
 * lookup: an image of DIRECTORY (/usr/lib) with its objects, compared with the kernel's mount of it, and with composefs-fuse if
 * the environment variable COMPOSEFS_FUSE names that program. verity=off is set, as neither checks digests.
 * directory: a plain copy of DIRECTORY above an empty directory, compared with kernel overlayfs and fuse-overlayfs.
 * writing: the same below an upper layer, with workloads that change files.
 * user: the image, whose clients are an ordinary user.
 * loaded: the image, on a machine whose CPUs are all busy with other work.
 * choices: this driver's defaults, compared with other mount options.
 *
 * Each result goes into docs/performance.md, between its markers, as tables and for the first two a picture (lookup.svg,
 * directory.svg in this folder), and the whole report goes to dist/ as JSON. OPTIONs are passed to `lowerdata bench`, for example
 * --rounds. With --only, one of these comparisons is made. Copies are made in a temporary directory, on the filesystem of
 * DIRECTORY if possible, and are always removed. Needs root, space for a copy of the directory, and half an hour.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { constants, cpus, tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { BenchReport, BenchRow } from '../../src/bench/report.ts';
import { table } from '../../src/bench/table.ts';
import { uringObstacle } from '../../src/fuse/uring.ts';

const packageFolder = new URL('../../../', import.meta.url).pathname;
const command = join(packageFolder, 'dist/src/cli/main.js');
const NAMES = 'walk,stat,stat-again,miss,miss-again,open,open-again,read,read-again';
const DATA = 'sequential,random,mmap';
const CHANGES = 'create,remove-new,write,chmod,append,remove';
const NOBODY = '65534';

interface Comparison {
  readonly name: string;
  /** Makes the stack in an empty directory, and returns it. */
  readonly prepare: (directory: string, place: string) => Promise<string>;
  readonly options: readonly string[];
  readonly hasPicture?: true;
}

/** Makes the image and its objects, once for all comparisons. */
async function image(directory: string, place: string): Promise<string> {
  if (!existsSync(`${place}/image`))
    await run('node', [command, 'mkfs', `--digest-store=${place}/objects`, directory, `${place}/image`]);
  return `${place}/image::${place}/objects`;
}

/** Makes the copy, likewise. */
async function copy(directory: string, place: string): Promise<string> {
  if (!existsSync(`${place}/empty`)) {
    mkdirSync(`${place}/empty`); // overlayfs needs at least two layers
    await run('cp', ['-a', '--reflink=auto', directory, `${place}/tree`]);
  }
  return `${place}/tree:${place}/empty`;
}

const UNCHECKED = ['-o', 'verity=off'];
const besideKernel = [...UNCHECKED, '--targets', 'lowerdata,kernel'];
const composefs = process.env.COMPOSEFS_FUSE
  ? ['--peer', `composefs-fuse=${process.env.COMPOSEFS_FUSE} -o source={image},basedir={objects},allow_other {mnt}`]
  : [];

const comparisons: readonly Comparison[] = [
  {
    name: 'lookup',
    prepare: image,
    options: [...besideKernel, ...composefs, '--clients', '1,2,4', '--workloads', `${NAMES},${DATA}`],
    hasPicture: true,
  },
  {
    name: 'user',
    prepare: image,
    options: [...besideKernel, ...composefs, '--as', NOBODY, '--workloads', NAMES],
  },
  {
    name: 'loaded',
    prepare: image,
    options: [...besideKernel, ...composefs, '--load', `${cpus().length}`, '--workloads', NAMES],
  },
  {
    name: 'choices',
    prepare: image,
    options: [...UNCHECKED, '--targets', 'lowerdata', ...variants(), '--workloads', `${NAMES},${DATA}`],
  },
  {
    name: 'directory',
    prepare: copy,
    options: [
      ...[...UNCHECKED, '--targets', 'lowerdata,kernel,fuse-overlayfs', '--clients', '1,2,4'],
      ...['--workloads', `${NAMES},${DATA}`],
    ],
    hasPicture: true,
  },
  {
    name: 'writing',
    prepare: copy,
    options: [
      ...[...UNCHECKED, '--targets', 'lowerdata,kernel,fuse-overlayfs', '--clients', '1,2'],
      ...['--workloads', `walk,stat,stat-again,${CHANGES}`],
    ],
  },
];

/** Options of this driver that are compared with its defaults. */
function variants(): string[] {
  const sets = ['low=latency=low', 'none=opens=none', 'off=passthrough=off'];
  const obstacle = uringObstacle();
  if (obstacle === undefined) sets.push('uring=transport=uring');
  else console.error(`Without transport=uring: ${obstacle}`);
  return sets.flatMap(set => ['--with', set]);
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
  { name, prepare, options, hasPicture }: Comparison,
  directory: string,
  place: string,
  more: readonly string[],
): Promise<void> {
  const stack = await prepare(directory, place);
  const svg = hasPicture ? ['--svg', join(packageFolder, 'scripts/bench', `${name}.svg`)] : [];
  const report = JSON.parse(
    await run('node', [command, 'bench', stack, ...options, ...more, ...svg, '--json']),
  ) as BenchReport;
  writeFileSync(join(packageFolder, `dist/bench-${name}.json`), `${JSON.stringify(report, undefined, 2)}\n`);
  console.log([`${name}: ${directory}`, '', ...table(report), ''].join('\n'));
  writeInto(join(packageFolder, 'docs/performance.md'), name, [...section(directory, report, svg[1])].join('\n'));
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
const ninetyNinth: Cell = ([row]) => row?.microseconds.p99.toFixed(0) ?? '';
const milliseconds: Cell = ([row]) => (row ? (row.seconds * 1000).toFixed(0) : '');
const thousands: Cell = rows =>
  rows.map(({ operations, seconds }) => number(Number((operations / seconds / 1000).toPrecision(3)))).join(', ');

/** What docs/performance.md says of a report: what was measured where, tables for each quantity, and a picture. */
function* section(directory: string, report: BenchReport, picture: string | undefined): Generator<string> {
  const { machine, rounds, entries, directories, rows } = report;
  yield `${directory}, ${number(entries)} names in ${number(directories)} directories; rounds: ${rounds}; ${machine.processor}, ${machine.processors}`;
  yield `processors, Linux ${machine.kernel}, Node ${machine.node.slice(1)}.`;
  const clients = [...new Set(rows.map(row => row.clients))];
  const alone = { ...report, rows: rows.filter(row => row.clients === clients[0]) };
  yield* tables('µs of one operation (*p50*), one client', alone, microseconds);
  yield* tables('ms of a whole pass (*all*), one client', alone, milliseconds);
  const [one, two = one] = clients;
  const crowded = { ...report, rows: rows.filter(row => row.clients === two) };
  const slowest = `µs that one operation in a hundred exceeds (*p99*), ${two === one ? 'one client' : `${two} clients`}`;
  yield* tables(slowest, crowded, ninetyNinth);
  const together = `Thousands of operations a second, by ${clients.join(', ')} clients together`;
  if (clients.length > 1) yield* tables(together, report, thousands);
  for (const { name: target, error } of report.targets) if (error !== undefined) yield `\n${target} failed: ${error}`;
  const shown = report.targets.map(target => target.name).filter(target => rows.some(row => row.target === target));
  if (picture !== undefined)
    yield `\n![Times of one operation, and ratios: ${shown.join(', ')}](../scripts/bench/${basename(picture)})`;
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
const [flag, name] = process.argv.slice(2);
const only = flag === '--only' ? name : undefined;
const wanted = comparisons.filter(each => only === undefined || each.name === only);
if (wanted.length === 0) throw new Error(`--only ${only}: not one of ${comparisons.map(each => each.name).join(', ')}`);
const [directory = '/usr/lib', ...more] = process.argv.slice(only === undefined ? 2 : 4);
const device = statSync(directory).dev;
const parent = [tmpdir(), '/var/tmp'].find(path => statSync(path).dev === device) ?? tmpdir();
const place = mkdtempSync(join(parent, 'lowerdata-bench-'));
try {
  chmodSync(place, 0o755); // clients may be another user
  for (const comparison of wanted) await compare(comparison, directory, place, more);
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = ended ? 128 + constants.signals[ended] : 1;
} finally {
  rmSync(place, { recursive: true, force: true });
}
