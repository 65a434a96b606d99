/** `lowerdata mkfs`: makes a composefs image of a directory or a dump file. */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import type { Command } from 'commander';
import { linesOf, stageDump } from '../../composefs/dumpfile.ts';
import { type ScannedFile, scanTree } from '../../composefs/scan.ts';
import { type StageOptions, stageTree } from '../../composefs/stage.ts';
import type { StagedInodes } from '../../composefs/staged.ts';
import { setPayload, type TreeInode } from '../../composefs/tree.ts';
import { writeStaged } from '../../composefs/write.ts';
import { digestFiles } from '../../store/file-pool.ts';
import { abandonStore, beginStore, endStore, objectPath } from '../../store/objects.ts';
import { type ByteString, bufferOf, printable } from '../../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../../sys/errno.ts';
import { readAll } from '../../sys/streams.ts';
import { cleaningUp } from '../../terminal/interruption.ts';
import { print } from '../../terminal/output.ts';
import { Output } from '../../terminal/output-file.ts';
import { showBytes, showProgress } from '../../terminal/progress.ts';
import { complain, naming, reporting } from '../../terminal/report.ts';
import { type Algorithm, measureHex } from '../../verity/digest.ts';
import { ALGORITHM_NAMES, newCommand, oneOf, parse, spelledOut, threadsOf } from '../command.ts';
import { checkServiceFlags, withServiceOption, withSocket } from '../service-option.ts';

const FAILED = 1;
const THREADS_MAX = 9999;
const REDIRECTS: readonly string[] = ['absolute', 'data-only'];

interface MkfsFlags {
  readonly digestStore?: ByteString;
  readonly useEpoch?: true;
  readonly skipDevices?: true;
  readonly skipXattrs?: true;
  readonly userXattrs?: true;
  readonly printDigest?: true;
  readonly printDigestOnly?: true;
  readonly fromFile?: true;
  readonly minVersion?: ByteString;
  readonly maxVersion?: ByteString;
  readonly threads?: ByteString;
  readonly external?: true;
  readonly digests?: true;
  readonly hardlinks?: true;
  readonly redirects?: StageOptions['redirects'];
  readonly algorithm?: ByteString;
  readonly service?: ByteString;
}

/** @param asTool called as mkcomposefs, which has fewer options */
export async function run(args: readonly ByteString[], asTool = false): Promise<number> {
  const command = define(asTool);
  const ended = parse(command, asTool ? spelledOut(command, args) : withSocket(args));
  if (ended !== undefined) return ended;
  const [source, image] = command.args as [ByteString, ByteString?];
  return reporting(FAILED, () => build(source, image, command.opts<MkfsFlags>()));
}

/** @param asTool called as mkcomposefs, which has fewer options */
export function define(asTool = false): Command {
  const command = newCommand(asTool ? 'mkcomposefs' : 'lowerdata mkfs')
    .description('Make a composefs image.')
    .usage('[options] SOURCE IMAGE')
    .argument('<source>', 'a directory; with --from-file a dump, `-` for stdin')
    .argument('[image]', 'the file to write, `-` for stdout')
    .option('--digest-store <path>', "copy the files' data into this directory, named by digest")
    .option('--use-epoch', 'set all times to 0')
    .option('--skip-devices', 'leave out block and character devices')
    .option('--skip-xattrs', 'leave out extended attributes')
    .option('--user-xattrs', 'include only user.* extended attributes')
    .option('--print-digest', "print the image's fs-verity digest")
    .option('--print-digest-only', 'print the digest, and write no image')
    .option('--from-file', 'the source is a dump: text in the format composefs-dump(5)')
    .option('--min-version <n>', 'the format to write, 0 or 1 (default 0)')
    .option('--max-version <n>', 'the format to write for trees with whiteouts (default 1)')
    .option('--threads <n>', 'how many threads digest and copy (default: one for each CPU)');
  if (asTool) return command.option('--hardlinks', HARDLINKS);
  return withServiceOption(command, 'have `lowerdata serve` read the directory, with the rights of this user')
    .addOption(oneOf('--algorithm <name>', ALGORITHM, ALGORITHM_NAMES))
    .option('--external', 'copy no data: redirect each file to its path below the source, as a data-only layer')
    .option('--digests', "with --external: read all files, and record their data's digests")
    .option('--hardlinks', HARDLINKS)
    .addOption(oneOf('--redirects <kind>', 'absolute, or data-only for redirects that begin with //', REDIRECTS));
}

const ALGORITHM = 'sha256 (default) or sha512, for the digests of files and the printed digest of the image';
const HARDLINKS = 'keep hard links; without it, each name becomes a separate file';

async function build(source: ByteString, image: ByteString | undefined, flags: MkfsFlags): Promise<number> {
  checkFlags(flags, image);
  const versions = versionsOf(flags);
  const threads = threadsOf(flags.threads, THREADS_MAX) ?? availableParallelism();
  const output = image === undefined ? undefined : new Output(image);
  const bytes = await imageOf(source, flags, versions, threads);
  await output?.write(bytes);
  if (flags.printDigest || flags.printDigestOnly)
    print(`${measureHex(bytes, flags.algorithm as Algorithm | undefined)}\n`);
  return 0;
}

async function imageOf(
  source: ByteString,
  flags: MkfsFlags,
  versions: ReturnType<typeof versionsOf>,
  threads: number,
): Promise<Uint8Array> {
  if (flags.service !== undefined) return imageByService(source, flags, flags.service);
  const options: StageOptions = { ...versions, ...(flags.redirects && { redirects: flags.redirects }) };
  const inodes = flags.fromFile
    ? readDump(source, options)
    : stageTree(await readDirectory(source, flags, threads), options);
  return writeStaged(inodes);
}

/** Options that the service has, too, or that say what this command does with the image. */
const SERVICE_FLAGS: readonly string[] = [
  ...['useEpoch', 'skipDevices', 'skipXattrs', 'userXattrs', 'hardlinks', 'algorithm'],
  ...['printDigest', 'printDigestOnly'],
];

async function imageByService(source: ByteString, flags: MkfsFlags, socket: ByteString): Promise<Uint8Array> {
  checkServiceFlags(flags, SERVICE_FLAGS);
  const { useEpoch, skipDevices, skipXattrs, userXattrs, hardlinks: hardLinks, algorithm } = flags;
  const options = { useEpoch, skipDevices, skipXattrs, userXattrs, hardLinks, algorithm: algorithm as Algorithm };
  const { makeByService } = await import('../../service/client/make.ts');
  return makeByService(socket, source, options);
}

function checkFlags(flags: MkfsFlags, image: ByteString | undefined): void {
  const { printDigestOnly, external, digests, fromFile, digestStore, redirects, algorithm } = flags;
  for (const [refused, why] of [
    [image === undefined && !printDigestOnly, 'no image to write is named'],
    [image !== undefined && printDigestOnly, '--print-digest-only writes no image, but one is named'],
    [external && fromFile, '--external needs a directory'],
    [external && digestStore !== undefined, '--external leaves the data where it is, but --digest-store copies it'],
    [digests && !external, '--digests goes with --external'],
    [algorithm !== undefined && !ALGORITHM_NAMES.includes(algorithm), `--algorithm=${algorithm}: sha256 or sha512`],
    [redirects !== undefined && !REDIRECTS.includes(redirects), `--redirects=${redirects}: absolute or data-only`],
  ] as const)
    if (refused) throw new ErrnoError(EINVAL, printable(why));
}

/**
 * The range of format versions. If only one option is given, the other defaults to 0, as in mkcomposefs; a maximum below the
 * minimum has no effect.
 */
function versionsOf({ minVersion, maxVersion }: MkfsFlags): { minVersion: 0 | 1; maxVersion: 0 | 1 } {
  if (minVersion === undefined && maxVersion === undefined) return { minVersion: 0, maxVersion: 1 };
  const version = (text = '0'): 0 | 1 => {
    if (text !== '0' && text !== '1') throw new ErrnoError(EINVAL, `version ${printable(text)}: not 0 or 1`);
    return text === '0' ? 0 : 1;
  };
  return { minVersion: version(minVersion), maxVersion: version(maxVersion) };
}

/** Reads a dump, strictly if CFS_PARSE_STRICT is set, as the C programs do. */
function readDump(path: ByteString, options: StageOptions): StagedInodes {
  const strict = process.env.CFS_PARSE_STRICT !== undefined;
  const fd = path === '-' ? 0 : openSync(bufferOf(path), 'r');
  const stat = fstatSync(fd);
  const bar = showBytes(stat.isFile() ? stat.size : undefined);
  try {
    return stageDump(linesOf(counted(readAll(fd, printable(path)), bar.update), strict), strict, options);
  } finally {
    bar.stop();
    if (fd !== 0) closeSync(fd);
  }
}

/** Passes pieces on, and reports how many bytes they have so far. */
function* counted(pieces: Iterable<Uint8Array>, report: (bytes: number) => void): Generator<Uint8Array> {
  let bytes = 0;
  for (const piece of pieces) {
    yield piece;
    bytes += piece.length;
    report(bytes);
  }
}

async function readDirectory(path: ByteString, flags: MkfsFlags, threads: number): Promise<TreeInode> {
  const { useEpoch, skipDevices, skipXattrs, userXattrs, hardlinks, external, digests } = flags;
  const options = { useEpoch, skipDevices, skipXattrs, userXattrs, hardLinks: hardlinks, metadataOnly: external };
  const { root, files } = scanTree(path, options);
  if (!external || digests) await digest(files, flags, threads);
  for (const { path: place, inode } of files)
    naming(`${path}/${place}`, () => setPayload(inode, external ? place : objectPath(inode.digest as string)));
  return root;
}

async function digest(files: ScannedFile[], flags: MkfsFlags, threads: number): Promise<void> {
  const directory = flags.digestStore;
  const algorithm = flags.algorithm as Algorithm | undefined;
  const bar = showProgress(
    files.length,
    files.reduce((sum, { inode }) => sum + inode.sizeBytes, 0),
  );
  const store = directory === undefined ? undefined : beginStore(directory);
  const replaced = (object: ByteString): void =>
    complain(`${printable(object)}: replaced, because its data did not have the digest in its name`);
  const abandon = (): void => {
    if (store) abandonStore(store);
    bar.stop();
  };
  try {
    await cleaningUp(abandon, () =>
      digestFiles(files, {
        threads,
        replaced,
        progress: bar.update,
        ...(store && { store }),
        ...(algorithm && { algorithm }),
      }),
    );
  } finally {
    if (store) endStore(store);
    bar.stop();
  }
}
