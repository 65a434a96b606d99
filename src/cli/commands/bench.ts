/** `lowerdata bench`: measures how long lookups take, compared with the kernel and other programs. */
import { constants } from 'node:os';
import type { Command } from 'commander';
import { BUILT_IN, chosenTargets, DEFAULT_TARGETS } from '../../bench/choice.ts';
import type { ClientUser } from '../../bench/client.ts';
import { canDropCaches } from '../../bench/clients.ts';
import { type BenchNames, benchNames } from '../../bench/names.ts';
import { loadPainter } from '../../bench/picture.ts';
import { type BenchFacts, type BenchReport, reportOf } from '../../bench/report.ts';
import { type BenchPlan, runBench } from '../../bench/run.ts';
import { table } from '../../bench/table.ts';
import { objectTarget, type Target } from '../../bench/targets.ts';
import { chosenWorkloads, possibleWorkloads, WORKLOADS, type Workload } from '../../bench/workloads.ts';
import { type MountPlan, planHere } from '../../mount/plan.ts';
import { type ByteString, byteStringFromText, printable } from '../../sys/bytes.ts';
import { EINVAL, EPERM, ErrnoError } from '../../sys/errno.ts';
import { native } from '../../sys/native.ts';
import { documentLines } from '../../terminal/json-lines.ts';
import { printLines } from '../../terminal/output.ts';
import { Output } from '../../terminal/output-file.ts';
import { showSteps } from '../../terminal/progress.ts';
import { complain, reporting } from '../../terminal/report.ts';
import { collect, newCommand, parse } from '../command.ts';

const FAILED = 1;
const ROUNDS = '5';
const ROUNDS_MAX = 1000;
const CLIENTS_MAX = 64;
const LOAD_MAX = 1024;
const SEED_MAX = 2 ** 32 - 1;
/** The largest ID that the shims accept. */
const ID_MAX = 2 ** 31 - 1;

interface BenchFlags {
  readonly options: ByteString[];
  readonly peer: ByteString[];
  readonly with: ByteString[];
  readonly targets: ByteString;
  readonly workloads?: ByteString;
  readonly large?: ByteString;
  readonly rounds: ByteString;
  readonly clients: ByteString;
  readonly seed: ByteString;
  readonly as?: ByteString;
  readonly load: ByteString;
  readonly json?: true;
  readonly svg?: ByteString;
}

export const define = (): Command =>
  newCommand('lowerdata bench')
    .description('Measure how long lookups in a stack take with this driver, the kernel (as root) and other programs.')
    .usage('[options] A:B::C|IMAGE')
    .argument('<stack>', 'the layers, as for mount')
    .option('-o, --options <list>', 'mount options of this driver', collect, [])
    .option('--targets <list>', `which of ${BUILT_IN.join(', ')}; default: all but the last`, DEFAULT_TARGETS)
    .option('--with <name=options>', 'measure this driver with further mount options, too', collect, [])
    .option(
      '--peer <name=command>',
      'measure this command, too; {image}, {objects}, {stack}, {upper}, {work} and {mnt} are replaced',
      collect,
      [],
    )
    .option('--workloads <list>', 'the workloads to run, separated by commas; default: those below that change nothing')
    .option('--large <path>', 'the large file, in place of the largest one')
    .option('--rounds <n>', 'the number of times that each target is measured', ROUNDS)
    .option('--clients <list>', 'numbers of concurrent clients', '1')
    .option('--seed <n>', 'the seed for choosing and shuffling names', '1')
    .option(
      '--as <uid>',
      'the user of the clients, as UID or UID:GID; an ordinary user shows the cost of ACLs; needs root',
    )
    .option('--load <n>', 'the number of threads that keep CPUs busy meanwhile', '0')
    .option('--json', 'print JSON')
    .option('--svg <file>', 'also draw a picture of the results')
    .addHelpText('after', HELP);

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  return reporting(FAILED, () => bench(command.args[0] as ByteString, command.opts<BenchFlags>()));
}

const HELP = `
Workloads:
${WORKLOADS.map(({ name, what, writes }) => `  ${name.padEnd(18)}${what}${writes ? ' *' : ''}`).join('\n')}

* changes files. With such a workload, each mount has an upper layer, which is removed afterwards.

All targets are compared with the first one. The plain file that holds the data of the large file is the target \`object\`.
Names and inodes are dropped from the kernel's caches of the whole system before cold workloads.
Exit status: 0, or 1 if a target could not be measured.`;

async function bench(source: ByteString, flags: BenchFlags): Promise<number> {
  const user = flags.as === undefined ? undefined : clientUser(flags.as);
  const options = user ? [...flags.options, 'allow_other'] : flags.options;
  const mountPlan = await planHere(source, options);
  const rounds = wholeNumber('--rounds', flags.rounds, 1, ROUNDS_MAX);
  const counts = flags.clients.split(',').map(text => wholeNumber('--clients', text, 1, CLIENTS_MAX));
  const seed = wholeNumber('--seed', flags.seed, 0, SEED_MAX);
  const load = wholeNumber('--load', flags.load, 0, LOAD_MAX);
  const asked = chosenWorkloads(flags.workloads);
  const writes = asked.some(workload => workload.writes);
  if (writes && mountPlan.stack.upper)
    throw new ErrnoError(EINVAL, 'upperdir: directories for changes are made for each mount');
  const chosen = await chosenTargets({ source, ...flags, options }, mountPlan, writes);
  const names = benchNames(mountPlan.stack, seed, flags.large);
  const { workloads, notes } = possibleWorkloads(asked, names);
  const reference = referenceFor(workloads, names);
  const targets = [...chosen.targets, ...reference.targets];
  const plan: BenchPlan = { targets, workloads, names, rounds, clients: [...new Set(counts)], user, load };
  const facts: BenchFacts = {
    stack: printable(source),
    options: options.map(printable),
    rounds,
    seed,
    entries: names.entries,
    directories: names.directories.length,
    notes: [
      ...(user ? [`Clients are user ${user.uid} of group ${user.gid}.`] : []),
      ...(load > 0 ? [`Threads that kept CPUs busy meanwhile: ${load}.`] : []),
      ...[...chosen.notes, ...notes, ...reference.notes, ...warnings(chosen.targets, mountPlan)],
    ],
    large: reference.large,
  };
  const picture = flags.svg === undefined ? undefined : new Output(flags.svg);
  const paint = picture && (await loadPainter());
  const report = await untilSignal(signal => measure(plan, facts, signal));
  if (paint) await picture?.write(Buffer.from(paint(report)));
  printLines(flags.json ? documentLines(report) : [...table(report)].map(byteStringFromText));
  return report.targets.some(({ error }) => error !== undefined) ? FAILED : 0;
}

/** The large file, and the target that workloads about it are compared with: the plain file with its data. */
function referenceFor(
  workloads: readonly Workload[],
  { large }: BenchNames,
): { targets: Target[]; notes: string[]; large: BenchReport['large'] } {
  if (!large || !workloads.some(({ kind, writes }) => kind === 'data' && !writes))
    return { targets: [], notes: [], large: null };
  const { path, sizeBytes, object } = large;
  return {
    targets: object === undefined ? [] : [objectTarget(object)],
    notes: object === undefined ? [`object is left out: no plain file holds the data of ${printable(path)}.`] : [],
    large: { path: printable(path), sizeBytes, object: object === undefined ? null : printable(object) },
  };
}

/** Notes on conditions that differ between targets or distort the results. */
function warnings(targets: readonly Target[], { stack }: MountPlan): string[] {
  const notes: string[] = [];
  if (targets.some(({ name }) => name === 'kernel') && stack.verity !== 'off')
    notes.push('The kernel checks no digests here; this driver does, unless it is measured with -o verity=off.');
  if (!canDropCaches()) notes.push('Cold workloads are as cold as a new mount: only root can drop caches.');
  return notes;
}

/** Parses the value of --as. Throws ErrnoError EINVAL for a malformed one, and EPERM without root. */
function clientUser(text: ByteString): ClientUser {
  const [, uid, gid = uid] = /^(\d{1,10})(?::(\d{1,10}))?$/.exec(text) ?? [];
  if (uid === undefined || gid === undefined)
    throw new ErrnoError(EINVAL, `--as ${printable(text)}: not UID or UID:GID`);
  if (process.geteuid?.() !== 0)
    throw new ErrnoError(EPERM, `--as ${printable(text)}: only root can run clients as another user`);
  return { uid: wholeNumber('--as', uid, 0, ID_MAX), gid: wholeNumber('--as', gid, 0, ID_MAX) };
}

function wholeNumber(option: string, text: ByteString, min: number, max: number): number {
  const number = /^\d{1,10}$/.test(text) ? Number(text) : -1;
  if (number < min || number > max) throw new ErrnoError(EINVAL, `${option}=${printable(text)}: ${min} to ${max}`);
  return number;
}

async function measure(plan: BenchPlan, facts: BenchFacts, signal: AbortSignal): Promise<BenchReport> {
  const progress = showSteps(plan.rounds * plan.clients.length * plan.targets.length);
  try {
    const measured = await runBench(plan, progress.step, signal);
    return reportOf(
      facts,
      plan.workloads,
      plan.targets.map(({ name }) => name),
      measured,
    );
  } finally {
    progress.stop();
  }
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Runs an action that a signal aborts. After an abort the process exits with the signal's status, once everything is unmounted.
 */
async function untilSignal<T>(action: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const abort = (name: NodeJS.Signals): void => controller.abort(name);
  for (const name of SIGNALS) process.on(name, abort);
  try {
    return await action(controller.signal);
  } catch (error) {
    if (!controller.signal.aborted || error !== controller.signal.reason) throw error;
    complain(`${error}: ended before everything was measured`);
    return native.exit(128 + constants.signals[error as NodeJS.Signals]); // exits now, rather than when a client's call returns
  } finally {
    for (const name of SIGNALS) process.off(name, abort);
  }
}
