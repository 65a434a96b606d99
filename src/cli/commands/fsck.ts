/** `lowerdata fsck`: checks that every object of a stack exists with the right size and digest; or a repository. */
import type { Command } from 'commander';
import { FsckJournal } from '../../inspect/fsck-journal.ts';
import { inventory } from '../../inspect/inventory.ts';
import { type Counts, ObjectCheck } from '../../inspect/object-check.ts';
import { checkRepository, type StoreCounts } from '../../inspect/stored/check.ts';
import type { Finding } from '../../mount/finding.ts';
import { objectsFinding } from '../../mount/objects.ts';
import { planHere } from '../../mount/plan.ts';
import type { StoredRepository } from '../../oci/stored/repository.ts';
import { openOverlay } from '../../overlay/open.ts';
import type { StackOptions } from '../../overlay/options/rules.ts';
import type { Overlay } from '../../overlay/overlay.ts';
import { type ByteString, byteStringFromText, printable } from '../../sys/bytes.ts';
import { EINVAL, EIO, ErrnoError, EUCLEAN, systemError } from '../../sys/errno.ts';
import { LOCK_SH } from '../../sys/locks/flock.ts';
import { jsonLine } from '../../terminal/json-lines.ts';
import { print } from '../../terminal/output.ts';
import { showProgress } from '../../terminal/progress.ts';
import { complain, reporting } from '../../terminal/report.ts';
import { MeasurePool } from '../../verity/measure-pool.ts';
import { collect, newCommand, parse, threadsOf } from '../command.ts';
import { findingLine } from '../finding-line.ts';
import { inStore, reportWait, type StoreFlags, sizeText } from '../store.ts';

/** Exit statuses, as of fsck(8). */
const CLEAN = 0;
const ERRORS_LEFT = 4;
const OPERATIONAL_ERROR = 8;
const WRONG_CALL = 16;
const CANCELLED = 32;
const THREADS_MAX = 999;

interface FsckFlags extends StoreFlags {
  readonly options: ByteString[];
  readonly json?: true;
  readonly enableVerity?: true;
  readonly threads?: ByteString;
  readonly restart?: true;
}

export const define = (): Command =>
  newCommand('lowerdata fsck')
    .description(
      'Check that every object of a stack exists and has its size and digest, or check a repository. All data is read.',
    )
    .usage('[options] A:B::C|IMAGE | --store DIR')
    .argument('[stack]', 'the layers, as for mount')
    .option('--store <path>', 'check this repository, with its images, streams and names, in place of a stack')
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
  const [source] = command.args as ByteString[];
  let checkIt: (() => Promise<number>) | undefined;
  await reporting(WRONG_CALL, async () => {
    const threads = threadsOf(flags.threads, THREADS_MAX);
    if (flags.store !== undefined) {
      refuseForStore(source, flags);
      checkIt = () => inStore(flags, false, repository => checkStore(repository, new MeasurePool(threads), flags));
      return 0;
    }
    if (source === undefined) throw new ErrnoError(EINVAL, 'fsck: the argument <stack> is missing; or --store');
    const stack = await stackOf(source, flags);
    checkIt = () => check(stack, new MeasurePool(threads), flags);
    return 0;
  });
  if (!checkIt) return WRONG_CALL;
  try {
    return await checkIt();
  } catch (error) {
    const failure = systemError(error);
    if (!(failure instanceof ErrnoError)) throw error;
    complain(failure.message);
    return failure.errno === EIO || failure.errno === EUCLEAN ? ERRORS_LEFT : OPERATIONAL_ERROR;
  }
}

/** Refuses what a repository has no use for. Throws ErrnoError EINVAL. */
function refuseForStore(source: ByteString | undefined, { options, enableVerity }: FsckFlags): void {
  const other =
    source !== undefined ? printable(source) : options.length > 0 ? '-o' : enableVerity ? '--enable-verity' : undefined;
  if (other !== undefined) throw new ErrnoError(EINVAL, `fsck: ${other}: not with --store, which checks a repository`);
}

const HELP = `
A problem is a path and EWRONGVERITY (another digest), ENOVERITY (none, with verity=require), EWRONGSIZE, or an errno.
A problem of a repository is a path in it, with what to do. Streams, images and names have to lead to what is there.
Ctrl-C ends it; the next run goes on with the objects that were not checked.
Exit status, as of fsck(8): 0 no problems, 4 problems, 8 the check failed, 16 a wrong call, 32 cancelled.`;

async function check(stack: StackOptions, pool: MeasurePool, flags: FsckFlags): Promise<number> {
  const overlay = openOverlay(stack);
  const paths = stack.layers.map(({ path }) => path);
  const journal = new FsckJournal(paths, flags.enableVerity ? 'fsck-verity' : 'fsck');
  const counts = await untilCancelled(journal, flags, signal =>
    checkObjects({ overlay, pool, journal, signal, flags }),
  );
  overlay.close();
  return end(pool, counts, flags, summary);
}

async function checkStore(repository: StoredRepository, pool: MeasurePool, flags: FsckFlags): Promise<number> {
  repository.lock(LOCK_SH, reportWait);
  const journal = new FsckJournal([repository.path], 'fsck-store');
  const report = (finding: Finding): void => void print(findingLine(finding, flags.json));
  const counts = await untilCancelled(journal, flags, signal =>
    checkRepository({ repository, pool, journal, signal, report, progress: showProgress }),
  );
  return end(pool, counts, flags, storeSummary);
}

type Cancellable<T> = T & { readonly cancelled: boolean };

/** Runs a check that Ctrl-C ends; then the journal has what it has found good. */
async function untilCancelled<T>(
  journal: FsckJournal,
  { restart }: FsckFlags,
  run: (signal: AbortSignal) => Promise<T>,
): Promise<Cancellable<T>> {
  if (restart) journal.remove();
  const cancel = new AbortController();
  process.once('SIGINT', () => cancel.abort()).once('SIGTERM', () => cancel.abort());
  const counts = await run(cancel.signal);
  const { aborted } = cancel.signal;
  if (aborted) journal.flush();
  else journal.remove();
  return { ...counts, cancelled: aborted };
}

/** Prints the numbers. @returns the exit status */
async function end<T extends { readonly problems: number }>(
  pool: MeasurePool,
  counts: Cancellable<T>,
  { json }: FsckFlags,
  summaryOf: (counts: Cancellable<T>) => string,
): Promise<number> {
  await print(json ? jsonLine(counts) : byteStringFromText(`${summaryOf(counts)}\n`));
  await pool.close();
  if (counts.cancelled) return CANCELLED;
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

function summary(counts: Cancellable<Counts>): string {
  const { files, objects, bytes, shared, known, withoutDigest } = counts;
  const { verityEnabled, verityThere, verityImpossible } = counts;
  const parts = [
    `${files} files, ${objects} with data elsewhere (${(bytes / 1e6).toFixed(0)} MB)`,
    ...(shared > 0 ? [`${shared} share an object with another`] : []),
    ...knownPart(known),
    ...(withoutDigest > 0 ? [`${withoutDigest} without a digest`] : []),
    ...(verityEnabled > 0 ? [`fs-verity enabled for ${verityEnabled}`] : []),
    ...(verityThere > 0 ? [`${verityThere} had fs-verity`] : []),
    ...(verityImpossible > 0 ? [`${verityImpossible} on a filesystem without fs-verity`] : []),
    ...endParts(counts),
  ];
  return parts.join('; ');
}

function storeSummary(counts: Cancellable<StoreCounts>): string {
  const { objects, bytes, known, streams, images, names } = counts;
  const checked = `${objects} objects (${sizeText(bytes)}), ${streams} streams, ${images} images, ${names} names`;
  return [checked, ...knownPart(known), ...endParts(counts)].join('; ');
}

const knownPart = (known: number): string[] => (known > 0 ? [`${known} known from an interrupted run`] : []);

const endParts = ({ problems, cancelled }: Cancellable<{ readonly problems: number }>): string[] => [
  problems === 0 ? 'no problems' : `${problems} problems`,
  ...(cancelled ? ['cancelled: run it again to go on'] : []),
];
