/** `lowerdata relink`: converts the redirects and origins by which an image's files find their data. */

import type { Command } from 'commander';
import { readStaged } from '../../composefs/read-staged.ts';
import {
  type ExternalFile,
  externalFiles,
  type Refusal,
  type RelinkTarget,
  relink,
  TARGETS,
} from '../../composefs/relink.ts';
import type { StagedInodes } from '../../composefs/staged.ts';
import { pathOf } from '../../composefs/tree.ts';
import { writeStaged } from '../../composefs/write.ts';
import { openImage, readImageFile } from '../../erofs/image.ts';
import { ObjectOrigins, type WantedObject } from '../../inspect/object-origins.ts';
import { pathList } from '../../mount/options.ts';
import { objectPath } from '../../store/objects.ts';
import { type ByteString, byteStringFromText, printable } from '../../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../../sys/errno.ts';
import { print } from '../../terminal/output.ts';
import { Output } from '../../terminal/output-file.ts';
import { showProgress } from '../../terminal/progress.ts';
import { complain, complainInLines, naming, reporting } from '../../terminal/report.ts';
import { MeasurePool } from '../../verity/measure-pool.ts';
import { newCommand, oneOf, parse, threadsOf } from '../command.ts';

const FAILED = 1;

interface RelinkFlags {
  readonly output?: ByteString;
  readonly to?: ByteString;
  readonly basedir?: ByteString;
  readonly dryRun?: true;
  readonly threads?: ByteString;
}

/** The options of a conversion, checked. */
interface Plan {
  readonly target: RelinkTarget;
  readonly directories: readonly ByteString[];
  readonly threads: number | undefined;
}

export const define = (): Command =>
  newCommand('lowerdata relink')
    .description('Convert how an image refers to its objects. Nothing else in it changes.')
    .usage('[options] IMAGE -o NEW --to origin|data-only|absolute')
    .argument('<image>', 'a composefs image')
    .option('-o, --output <path>', 'the image to write, `-` for stdout; may be the same image')
    .addOption(oneOf('--to <how>', 'origin, data-only or absolute', TARGETS))
    .option('--basedir <list>', 'for origin: the directories that have the objects, DIR[:DIR]...')
    .option('--dry-run', 'show what would be done, and write nothing')
    .option('--threads <n>', 'for origin: how many threads measure (default: one for each CPU)')
    .addHelpText('after', HELP);

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  return reporting(FAILED, () => convert(command.args[0] as ByteString, command.opts<RelinkFlags>()));
}

const HELP = `
absolute   redirect /ab/cd...: a path that is searched for in every layer below
data-only  redirect //ab/cd...: the same path, only in data-only layers
origin     an empty redirect, and a file handle: an object may be renamed and moved within its filesystem, which must have a
           uuid. Opening files needs CAP_DAC_READ_SEARCH, and a layer on that filesystem.
Kernel overlayfs supports only the first, and refuses files with the others: EINVAL.

For origin each object is looked for below the base directories by the path of its redirect, then by the name that its digest
gives it, and its size and digest are checked. From origin back, a file leads to the name that its digest gives its object.
An image of mkcomposefs or lowerdata comes back byte for byte, from origin if its store was named by digest; one of another
tool comes back in the layout of mkcomposefs. One that needs no change is copied.

A file that cannot be converted is a line of path, object and reason: ENOVERITY (it has no digest), ENOENT (no base directory
has the object), EWRONGSIZE, EWRONGVERITY (another digest), EOPNOTSUPP (a filesystem without file handles, or without a uuid),
ENOTUNIQ (two filesystems have the uuid), or the error of a system call. If there is such a file, nothing is written.
Exit status: 0 done, 1 nothing is written.`;

async function convert(source: ByteString, flags: RelinkFlags): Promise<number> {
  const plan = planOf(flags);
  const output = flags.dryRun ? undefined : new Output(flags.output ?? '');
  const bytes = readImageFile(source);
  const inodes = naming(source, () => readComposefs(bytes));
  const files = [...externalFiles(inodes)];
  const origins = plan.target === 'origin' ? await findOrigins(files, plan) : new Map<string, ByteString | Refusal>();
  const { changed, refused } = relink(
    inodes,
    files,
    plan.target,
    file => origins.get(keyOf(file)) as ByteString | Refusal,
  );
  const lines = refused.map(refusal => problemLine(...refusal)).join('');
  const numbers = `${printable(source)}: ${files.length} files with data elsewhere`;
  if (flags.dryRun) {
    const rest = files.length - changed - refused.length;
    const summary = `${changed} to change, ${rest} to stay, ${refused.length} that cannot be converted`;
    print(byteStringFromText(`${lines}${numbers}: ${summary}\n`));
  } else if (refused.length > 0) {
    complainInLines(byteStringFromText(lines));
    complain(`${numbers}, ${refused.length} of them cannot be converted: nothing is written`);
  } else await output?.write(changed === 0 ? bytes : writeStaged(inodes));
  return refused.length > 0 ? FAILED : 0;
}

function planOf({ output, to, basedir, dryRun, threads }: RelinkFlags): Plan {
  const target = TARGETS.find(known => known === to);
  const directories = basedir === undefined ? [] : pathList(basedir);
  for (const [refused, why] of [
    [to === undefined, `--to is missing: one of ${TARGETS.join(', ')}`],
    [target === undefined, `--to=${to}: not one of ${TARGETS.join(', ')}`],
    [output === undefined && !dryRun, 'no image to write is named: -o NEW'],
    [target === 'origin' && basedir === undefined, '--to=origin needs --basedir: where the objects are'],
    [target !== 'origin' && basedir !== undefined, `--basedir goes with --to=origin, --to=${to} reads no object`],
    [directories.includes(''), `--basedir=${basedir}: an empty path`],
  ] as const)
    if (refused) throw new ErrnoError(EINVAL, printable(why));
  return { target: target as RelinkTarget, directories, threads: threadsOf(threads, THREADS_MAX) };
}
const THREADS_MAX = 999;

function readComposefs(bytes: Uint8Array): StagedInodes {
  const image = openImage(bytes);
  if (!image.composefs) throw new ErrnoError(EINVAL, 'an EROFS image, but not a composefs image');
  return readStaged(image);
}

/** The origins of all objects that files with a digest refer to, keyed by `keyOf`. */
async function findOrigins(files: readonly ExternalFile[], plan: Plan): Promise<Map<string, ByteString | Refusal>> {
  const wanted = new Map<string, WantedObject>();
  for (const file of files) {
    const { sizeBytes, digest } = file;
    if (digest !== undefined) wanted.set(keyOf(file), { paths: pathsOf(file), sizeBytes, digest });
  }
  const objects = [...wanted.values()];
  const totalBytes = objects.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const pool = new MeasurePool(plan.threads);
  const origins = new ObjectOrigins(plan.directories, pool);
  const bar = showProgress(objects.length, totalBytes);
  try {
    const found = await origins.find(objects, bar.update);
    return new Map([...wanted.keys()].map((key, i) => [key, found[i] as ByteString | Refusal]));
  } finally {
    bar.stop();
    origins.close();
    await pool.close();
  }
}

/** The possible paths of a file's object below a base directory. */
function pathsOf({ redirect, digest }: ExternalFile): ByteString[] {
  const path = redirect?.startsWith('/') ? redirect.replace(/^\/+/, '') : '';
  return [...new Set([path, digest === undefined ? '' : objectPath(digest)])].filter(place => place !== '');
}

/** A key that is the same for files with the same object. */
const keyOf = (file: ExternalFile): string => JSON.stringify([file.sizeBytes, file.digest, ...pathsOf(file)]);

function problemLine(file: ExternalFile, { code, message, object }: Refusal): string {
  return `${printable(pathOf(file.place))}: ${object ?? printable(pathsOf(file)[0] ?? '-')}: ${code}: ${message}\n`;
}
