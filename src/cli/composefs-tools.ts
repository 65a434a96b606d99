/**
 * The composefs programs under their own names: a symlink of such a name to this command accepts that program's arguments. Their
 * stdout and exit status are reproduced; messages on stderr are our own.
 */
import { COMPOSEFS_MAGIC, ComposefsHeader } from '../erofs/format.ts';
import { isOfEveryMount } from '../mount/options.ts';
import { splitOptions } from '../overlay/options/split.ts';
import { type ByteString, printable } from '../sys/bytes.ts';
import { EINVAL, ErrnoError, errnoText } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { AT_FDCWD } from '../sys/statx.ts';
import { reporting } from '../terminal/report.ts';
import { collect, newCommand, parse } from './command.ts';
import { escapedPath } from './spelled.ts';

type ToolRun = (args: readonly ByteString[]) => Promise<number>;

/** The exit status of the composefs programs for every failure. */
const FAILED = 1;

/** fcntl.h. With it, opening a FIFO that has no writer does not block. */
const O_NONBLOCK = 0o4000;

const tools = new Map<string, ToolRun>([
  ['mkcomposefs', async args => (await import('./commands/mkfs.ts')).run(args, true)],
  ['composefs-info', async args => (await import('./commands/info.ts')).run(args, true)],
  ['mount.composefs', mountComposefs],
  ['composefs-fuse', composefsFuse],
]);

/** Runs one of the four programs. @returns its exit status */
export async function runTool(name: string, args: readonly ByteString[]): Promise<number> {
  const run = tools.get(name);
  if (!run) throw new ErrnoError(EINVAL, `${name}: no such program`);
  return (await run(args)) === 0 ? 0 : FAILED;
}

/** Translates each option of mount.composefs into one of ours; undefined if the option has no equivalent and is dropped. */
const MOUNT_OPTIONS: Record<ByteString, (value: ByteString | undefined) => ByteString | undefined> = {
  basedir: value => `basedir=${baseDirectories(needed('basedir', value)).map(escapedPath).join(':')}`,
  digest: value => `digest=${needed('digest', value)}`,
  verity: () => 'verity=require',
  tryverity: () => 'verity=require', // the program requires verity wherever the kernel can check it; lowerdata always can
  ro: () => 'ro',
  rw: () => undefined,
  statfs: value => `statfs=${needed('statfs', value)}`, // not an option of mount.composefs; accepted for mounts by fstab(5)
  upperdir: value => `upperdir=${escapedPath(needed('upperdir', value))}`,
  workdir: value => `workdir=${escapedPath(needed('workdir', value))}`,
  idmap: value => `idmap=${escapedPath(needed('idmap', value))}`,
};

/** The program accepts only these options, but mount(8) also passes the options that fstab(5) allows for every filesystem. */
const MOUNT_SYNOPSIS = '[-fnsv] [-N NAMESPACE] [-t composefs] -o basedir=DIR[:DIR][,OPTION...] IMAGE MOUNTPOINT';

async function mountComposefs(args: readonly ByteString[]): Promise<number> {
  const command = newCommand('mount.composefs')
    .description('Mount a composefs image.')
    .usage(MOUNT_SYNOPSIS)
    .argument('<image>', 'the image')
    .argument('<mountpoint>', 'a directory')
    .option('-t <type>', 'must be composefs')
    .option('-o <options>', `${Object.keys(MOUNT_OPTIONS).join(', ')}, and those of mount(8)`, collect, [])
    .option('-f', 'check everything, but do not mount')
    .option('-s', 'ignore unknown options')
    .option('-v', 'print the protection of the mount, and the options without effect')
    .option('-n', 'without effect, for mount(8)')
    .option('-N <namespace>', 'without effect, for mount(8)');
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const [image, mountpoint] = command.args as [ByteString, ByteString];
  const { t: type = 'composefs', o: texts, f, s, v } = command.opts<MountFlags>();
  return reporting(FAILED, async () => {
    if (type !== 'composefs' && type !== 'fuse.composefs') refuse(`-t ${printable(type)}: not composefs`);
    const options = mountOptions(texts, s === true);
    refuseOtherFiles(image, MOUNT_WORDS);
    if (process.geteuid?.() === 0) options.push('allow_other'); // as on mounts of the kernel
    const flags = [...(f ? ['--fake'] : []), ...(v ? ['-v'] : [])];
    const { run } = await import('./commands/mount.ts');
    const called = [...flags, '-o', unchecked(options).join(','), '--', escapedPath(image), mountpoint];
    return run(called, 'lowerdata', error => MOUNT_WORDS.failed(printable(image), reasonOf(error, image)));
  });
}

interface MountFlags {
  readonly t?: ByteString;
  readonly o: ByteString[];
  readonly f?: true;
  readonly s?: true;
  readonly v?: true;
}

/**
 * Translates the options for `lowerdata mount`. The program honours only the last -o; here all count, so that a given digest is
 * not lost. Throws EINVAL for an unknown, wrong or missing option.
 */
function mountOptions(texts: readonly ByteString[], sloppy: boolean): ByteString[] {
  const options: ByteString[] = [];
  for (const { key, value } of texts.flatMap(splitOptions)) {
    const become = Object.hasOwn(MOUNT_OPTIONS, key) ? MOUNT_OPTIONS[key] : undefined;
    if (become) {
      const taken = become(value === undefined ? undefined : withoutBackslashes(value));
      if (taken !== undefined) options.push(taken);
    } else if (isOfEveryMount(key)) options.push(optionText(key, value));
    else if (!sloppy) refuse(`option ${printable(key)}: unknown`);
  }
  if (!options.some(option => option.startsWith('basedir='))) refuse('basedir= is missing: where the objects are');
  return options;
}

/** Turns verification off unless an option requests it, as the programs do. A digest of the image is such a request. */
function unchecked(options: readonly ByteString[]): ByteString[] {
  const asked = options.some(option => /^(digest|verity)(=|$)/.test(option));
  return asked ? [...options] : ['verity=off', ...options];
}

/** The program's messages for an image that cannot be used. */
interface ImageWords {
  readonly unopened: (image: string, reason: string) => string;
  readonly failed: (image: string, reason: string) => string;
}
const MOUNT_WORDS: ImageWords = {
  unopened: (image, reason) => `Failed to open ${image}: ${reason}`,
  failed: (image, reason) => `Failed to mount composefs ${image}: ${reason}`,
};
const FUSE_WORDS: ImageWords = {
  unopened: (image, reason) => `Failed to open ${image}: ${reason}`,
  failed: (image, reason) => `${image}: ${reason}`,
};

/**
 * Refuses files without the composefs magic. Directories and other EROFS images would be valid layers here, but the programs
 * accept composefs images only.
 */
function refuseOtherFiles(image: ByteString, { unopened, failed }: ImageWords): void {
  const shown = printable(image);
  const fd = native.openat2(AT_FDCWD, image, O_NONBLOCK, 0);
  if (fd < 0) throw new ErrnoError(-fd, unopened(shown, errnoText(fd)));
  try {
    const header = new Uint8Array(ComposefsHeader.magic + 4);
    const count = native.pread(fd, header, 0, header.length, 0);
    if (count < 0) throw new ErrnoError(-count, failed(shown, errnoText(count)));
    const magic = new DataView(header.buffer).getUint32(ComposefsHeader.magic, true); // 0 if the file is too short
    if (magic === COMPOSEFS_MAGIC) return;
    throw new ErrnoError(EINVAL, failed(shown, 'Invalid argument: not a composefs image (wrong cfs magic)'));
  } finally {
    native.close(fd);
  }
}

/** The reason why an image could not be mounted, in the words of the program that scripts search for. */
function reasonOf(error: Error, image: ByteString): string {
  const { code, what } = error as Error & { code?: unknown; what?: string };
  if (code !== 'EWRONGVERITY') return withWords(error);
  const hint = hasVerity(image) ? '' : '; Image has no fs-verity of the kernel, so all of it was measured';
  return `Image has wrong fs-verity: ${what}${hint}`;
}

/** The message of an error, with the words of its errno in front unless it contains them. */
function withWords(error: Error): string {
  const words = error instanceof ErrnoError ? errnoText(error.errno) : '';
  return error.message.includes(words) ? error.message : `${words}: ${error.message}`;
}

/** Whether the kernel holds an fs-verity digest for a file. */
function hasVerity(path: ByteString): boolean {
  const fd = native.openat2(AT_FDCWD, path, O_NONBLOCK, 0);
  if (fd < 0) return false;
  const size = native.measureVerity(fd, new Uint8Array(VERITY_BYTES_MAX));
  native.close(fd);
  return size >= 0;
}
/** The size of struct fsverity_digest with a SHA-512 digest. */
const VERITY_BYTES_MAX = 4 + 64;

/** Splits directories at colons; mount.composefs has no escape for a colon. */
function baseDirectories(value: ByteString): ByteString[] {
  const directories = value.split(':');
  if (directories.includes('')) refuse(`basedir=${printable(value)}: an empty path`);
  return directories;
}

function needed(key: ByteString, value: ByteString | undefined): ByteString {
  return value ?? refuse(`${key}: a value is missing`);
}

function refuse(why: string): never {
  throw new ErrnoError(EINVAL, why);
}

const optionText = (key: ByteString, value: ByteString | undefined): ByteString =>
  value === undefined ? key : `${key}=${value}`;

const withoutBackslashes = (text: ByteString): ByteString => text.replace(/\\(.?)/gs, '$1');

/** Runs composefs-fuse. The image and the objects come as options; `lowerdata mount` also knows the options of libfuse. */
async function composefsFuse(args: readonly ByteString[]): Promise<number> {
  const command = newCommand('composefs-fuse')
    .description('Mount a composefs image with FUSE.')
    .usage('[-fds] -o source=IMAGE,basedir=DIR[,noacl][,OPTION...] MOUNTPOINT')
    .argument('<mountpoint>', 'a directory')
    .option('-o <options>', 'mount options', (text: ByteString, before: ByteString[]) => [...before, text], [])
    .option('-f', 'stay in the foreground')
    .option('-d', 'stay in the foreground, and print each message')
    .option('-s', 'without effect');
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const [mountpoint] = command.args as [ByteString];
  const { o: texts, f, d } = command.opts<{ o: ByteString[]; f?: true; d?: true }>();
  return reporting(FAILED, async () => {
    const { source, basedir, rest } = fuseOptions(texts);
    refuseOtherFiles(source, FUSE_WORDS);
    const options = unchecked([`basedir=${escapedPath(basedir)}`, ...rest]);
    const flags = [...(f ? ['-f'] : []), ...(d ? ['-d'] : [])];
    const { run } = await import('./commands/mount.ts');
    return run([...flags, '-o', options.join(','), '--', escapedPath(source), mountpoint], 'lowerdata');
  });
}

/** Extracts the two paths, in which a colon is part of the name, and leaves all other options unchanged. */
function fuseOptions(texts: readonly ByteString[]): { source: ByteString; basedir: ByteString; rest: ByteString[] } {
  const paths = new Map<ByteString, ByteString>();
  const rest: ByteString[] = [];
  for (const { key, value } of texts.flatMap(splitOptions))
    if (key === 'source' || key === 'basedir') paths.set(key, withoutBackslashes(needed(key, value)));
    else rest.push(optionText(key, value));
  const path = (key: ByteString): ByteString => paths.get(key) ?? refuse(`${key}= is missing`);
  return { source: path('source'), basedir: path('basedir'), rest };
}
