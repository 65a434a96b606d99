/** `lowerdata fsck`: checks that every object of a stack exists with the right size and digest. */
import type { Command } from 'commander';
import { FsckJournal } from '../../inspect/fsck-journal.ts';
import { inventory } from '../../inspect/inventory.ts';
import { type Counts, ObjectCheck } from '../../inspect/object-check.ts';
import type { Finding } from '../../mount/finding.ts';
import { objectsFinding } from '../../mount/objects.ts';
import { planHere } from '../../mount/plan.ts';
import { openOverlay } from '../../overlay/open.ts';
import type { StackOptions } from '../../overlay/options/rules.ts';
import type { Overlay } from '../../overlay/overlay.ts';
import { type ByteString, byteStringFromText } from '../../sys/bytes.ts';
import { EIO, ErrnoError, EUCLEAN, systemError } from '../../sys/errno.ts';
import { jsonLine } from '../../terminal/json-lines.ts';
import { print } from '../../terminal/output.ts';
import { showProgress } from '../../terminal/progress.ts';
import { complain, reporting } from '../../terminal/report.ts';
import { MeasurePool } from '../../verity/measure-pool.ts';
import { collect, newCommand, parse, threadsOf } from '../command.ts';
import { findingLine } from '../finding-line.ts';

/** Exit statuses, as of fsck(8). */
const CLEAN = 0;
const ERRORS_LEFT = 4;
const OPERATIONAL_ERROR = 8;
const WRONG_CALL = 16;
const CANCELLED = 32;
const THREADS_MAX = 999;

interface FsckFlags {
  readonly options: ByteString[];
  readonly json?: true;
  readonly enableVerity?: true;
  readonly threads?: ByteString;
  readonly restart?: true;
}

export const define = (): Command =>
  newCommand('lowerdata fsck')
    .description('Check that every object of a stack exists and has its size and digest. All data is read.')
    .usage('[options] A:B::C|IMAGE')
    .argument('<stack>', 'the layers, as for mount')
    .option('-o, --options <list>', 'mount options that change what the stack shows', collect, [])
    .option('--json', 'print JSON Lines: one object for each problem, then one with the numbers')
    .option('--enable-verity', 'enable fs-verity of the kernel for good objects, where their filesystem has it')
    .option('--threads <n>', 'how many threads measure (default: one for each CPU)')
    .option('--restart', 'check again the objects that an interrupted run has found good')
    .addHelpText('after', HELP);

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended === 0 ? 0 : WRONG_CALL;
  const flags = command.opts<FsckFlags>();
  let stack: StackOptions | undefined;
  let threads: number | undefined;
  await reporting(WRONG_CALL, async () => {
    threads = threadsOf(flags.threads, THREADS_MAX);
    stack = await stackOf(command.args[0] as ByteString, flags);
    return 0;
  });
  if (!stack) return WRONG_CALL;
  try {
    return await check(stack, new MeasurePool(threads), flags);
  } catch (error) {
    const failure = systemError(error);
    if (!(failure instanceof ErrnoError)) throw error;
    complain(failure.message);
    return failure.errno === EIO || failure.errno === EUCLEAN ? ERRORS_LEFT : OPERATIONAL_ERROR;
  }
}

const HELP = `
A problem is a path and EWRONGVERITY (another digest), ENOVERITY (none, with verity=require), EWRONGSIZE, or an errno.
Ctrl-C ends it; the next run goes on with the objects that were not checked.
Exit status, as of fsck(8): 0 no problems, 4 problems, 8 the check failed, 16 a wrong call, 32 cancelled.`;

async function check(stack: StackOptions, pool: MeasurePool, flags: FsckFlags): Promise<number> {
  const overlay = openOverlay(stack);
  const journal = new FsckJournal(stack, flags.enableVerity ? 'fsck-verity' : 'fsck');
  if (flags.restart) journal.remove();
  const cancel = new AbortController();
  process.once('SIGINT', () => cancel.abort()).once('SIGTERM', () => cancel.abort());
  const counts = await checkObjects({ overlay, pool, journal, signal: cancel.signal, flags });
  const { aborted } = cancel.signal;
  if (aborted) journal.flush();
  else journal.remove();
  await print(
    flags.json ? jsonLine({ ...counts, cancelled: aborted }) : byteStringFromText(`${summary(counts, aborted)}\n`),
  );
  overlay.close();
  await pool.close();
  if (aborted) return CANCELLED;
  return counts.problems > 0 ? ERRORS_LEFT : CLEAN;
}

/** The stack to check. Digests are always checked, even with the mount option verity=off. */
async function stackOf(source: ByteString, { options }: FsckFlags): Promise<StackOptions> {
  const { stack } = await planHere(source, options);
  return { ...stack, verity: stack.verity === 'off' ? 'on' : stack.verity };
}

interface FsckRun {
  readonly overlay: Overlay;
  readonly pool: MeasurePool;
  readonly journal: FsckJournal;
  readonly signal: AbortSignal;
  readonly flags: FsckFlags;
}

/** Checks all objects. All files are listed first, so that the progress bar knows the total. */
async function checkObjects({ overlay, pool, journal, signal, flags }: FsckRun): Promise<Counts> {
  const files = [...inventory(overlay)];
  const objects = files.filter(file => 'node' in file && file.node.data !== undefined);
  const sizeOf = (file: (typeof files)[number]): number => ('node' in file ? file.node.top.sizeBytes : 0);
  const bar = showProgress(
    objects.length,
    objects.reduce((sum, file) => sum + sizeOf(file), 0),
  );
  let [done, bytes] = [0, 0];
  const progress = (more: number, moreBytes: number): void => {
    done += more;
    bytes += moreBytes;
    bar.update(done, bytes);
  };
  const stack = objectsFinding(overlay);
  const report = (finding: Finding): void => {
    const isListed = flags.json || stack?.code !== 'no-objects' || OF_OBJECTS.has(finding.code);
    if (isListed) void print(findingLine(finding, flags.json));
  };
  if (stack) report(stack);
  const options = { overlay, pool, journal, signal, report, progress, enableVerity: flags.enableVerity === true };
  const objectCheck = new ObjectCheck(options);
  try {
    await objectCheck.run(files);
  } finally {
    bar.stop();
  }
  return objectCheck.counts;
}

/** The codes of a stack without objects, and of files that have an object. */
const OF_OBJECTS: ReadonlySet<string> = new Set(['no-objects', 'EWRONGVERITY', 'EWRONGSIZE', 'ENOVERITY']);

function summary(counts: Counts, cancelled: boolean): string {
  const { files, objects, bytes, shared, known, withoutDigest, problems } = counts;
  const { verityEnabled, verityThere, verityImpossible } = counts;
  const parts = [
    `${files} files, ${objects} with data elsewhere (${(bytes / 1e6).toFixed(0)} MB)`,
    ...(shared > 0 ? [`${shared} share an object with another`] : []),
    ...(known > 0 ? [`${known} known from an interrupted run`] : []),
    ...(withoutDigest > 0 ? [`${withoutDigest} without a digest`] : []),
    ...(verityEnabled > 0 ? [`fs-verity enabled for ${verityEnabled}`] : []),
    ...(verityThere > 0 ? [`${verityThere} had fs-verity`] : []),
    ...(verityImpossible > 0 ? [`${verityImpossible} on a filesystem without fs-verity`] : []),
    problems === 0 ? 'no problems' : `${problems} problems`,
    ...(cancelled ? ['cancelled: run it again to go on'] : []),
  ];
  return parts.join('; ');
}
