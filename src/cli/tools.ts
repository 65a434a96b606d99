/**
 * The programs of composefs by their own names: a symlink of that name to this command takes their arguments.
 * What they print on stdout and their exit status are kept; messages on stderr are ours.
 */
import { splitOptions } from '../overlay/options.ts';
import { type Name, printable } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';
import { newCommand, parse } from './command.ts';
import { reporting } from './report.ts';

type Run = (args: readonly Name[]) => Promise<number>;

/** They know one failure. */
const FAILED = 1;

const tools = new Map<string, Run>([
  ['mkcomposefs', async args => (await import('./mkfs.ts')).run(args, true)],
  ['composefs-info', async args => (await import('./info.ts')).run(args, true)],
  ['mount.composefs', mountComposefs],
  ['composefs-fuse', composefsFuse],
]);

/** Runs one of the four. @returns its exit status */
export async function runTool(name: string, args: readonly Name[]): Promise<number> {
  const run = tools.get(name);
  if (!run) throw new ErrnoError(EINVAL, `${name}: no such program`);
  return (await run(args)) === 0 ? 0 : FAILED;
}

/** What each option of mount.composefs becomes; undefined where it is nothing to us. */
const MOUNT_OPTIONS: Record<Name, (value: Name | undefined) => Name | undefined> = {
  basedir: value => `basedir=${baseDirectories(needed('basedir', value)).map(escapedPath).join(':')}`,
  digest: value => `digest=${needed('digest', value)}`,
  verity: () => 'verity=require',
  tryverity: () => 'verity=on',
  ro: () => 'ro',
  rw: () => undefined,
  upperdir: () => refuse('upperdir: a writable layer is not supported yet'),
  workdir: () => refuse('workdir: a writable layer is not supported yet'),
  idmap: () => refuse('idmap: owners can not be mapped yet'),
};

async function mountComposefs(args: readonly Name[]): Promise<number> {
  const command = newCommand('mount.composefs')
    .description('Mount a composefs image.')
    .usage('[-t composefs] -o basedir=DIR[:DIR][,OPTION...] IMAGE MOUNTPOINT')
    .argument('<image>', 'the image')
    .argument('<mountpoint>', 'a directory')
    .option('-t <type>', 'composefs, and no other')
    .option('-o <options>', Object.keys(MOUNT_OPTIONS).join(', '));
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const [image, mountpoint] = command.args as [Name, Name];
  const { t: type = 'composefs', o: text = '' } = command.opts<{ t?: Name; o?: Name }>();
  return reporting(FAILED, async () => {
    if (type !== 'composefs') refuse(`-t ${printable(type)}: composefs is meant`);
    const options = ['verity=off', ...mountOptions(text)]; // the program checks nothing unless that is asked for
    if (process.geteuid?.() === 0) options.push('allow_other'); // as the kernel's mounts
    const { run } = await import('./mount.ts');
    return run(['-o', options.join(','), '--', escapedPath(image), mountpoint], 'program');
  });
}

/** The options for `lowerdata mount`. Throws EINVAL for what is unknown, wrong or missing. */
function mountOptions(text: Name): Name[] {
  const options: Name[] = [];
  for (const { key, value } of splitOptions(text)) {
    const become = Object.hasOwn(MOUNT_OPTIONS, key) ? MOUNT_OPTIONS[key] : undefined;
    if (!become) refuse(`option ${printable(key)}: unknown`);
    const taken = become(value === undefined ? undefined : withoutBackslashes(value));
    if (taken !== undefined) options.push(taken);
  }
  if (!options.some(option => option.startsWith('basedir='))) refuse('basedir= is missing: where the objects are');
  return options;
}

/** Directories between colons, which it has no escape for. */
function baseDirectories(value: Name): Name[] {
  const directories = value.split(':');
  if (directories.includes('')) refuse(`basedir=${printable(value)}: an empty path`);
  return directories;
}

function needed(key: Name, value: Name | undefined): Name {
  return value ?? refuse(`${key}: a value is missing`);
}

function refuse(why: string): never {
  throw new ErrnoError(EINVAL, why);
}

const withoutBackslashes = (text: Name): Name => text.replace(/\\(.?)/gs, '$1');

/** A path as it is spelled in options and stacks. */
const escapedPath = (path: Name): Name => path.replace(/[,:\\"]/g, '\\$&');

/** Its image and objects come as options; what libfuse takes besides, `lowerdata mount` knows too. */
async function composefsFuse(args: readonly Name[]): Promise<number> {
  const command = newCommand('composefs-fuse')
    .description('Mount a composefs image with FUSE.')
    .usage('[-fds] -o source=IMAGE,basedir=DIR[,noacl][,OPTION...] MOUNTPOINT')
    .argument('<mountpoint>', 'a directory')
    .option('-o <options>', 'mount options', (text: Name, before: Name[]) => [...before, text], [])
    .option('-f', 'stay in the foreground')
    .option('-d', 'the same, and print each message')
    .option('-s', 'without effect');
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const [mountpoint] = command.args as [Name];
  const { o: texts, f, d } = command.opts<{ o: Name[]; f?: true; d?: true }>();
  return reporting(FAILED, async () => {
    const { source, basedir, rest } = fuseOptions(texts);
    const options = ['verity=off', `basedir=${escapedPath(basedir)}`, ...rest]; // it never checks anything
    const flags = [...(f ? ['-f'] : []), ...(d ? ['-d'] : [])];
    const { run } = await import('./mount.ts');
    return run([...flags, '-o', options.join(','), '--', escapedPath(source), mountpoint], 'program');
  });
}

/** The two paths, of which colons are a part, and all other options as they are. */
function fuseOptions(texts: readonly Name[]): { source: Name; basedir: Name; rest: Name[] } {
  const paths = new Map<Name, Name>();
  const rest: Name[] = [];
  for (const { key, value } of texts.flatMap(splitOptions))
    if (key === 'source' || key === 'basedir') paths.set(key, withoutBackslashes(needed(key, value)));
    else rest.push(value === undefined ? key : `${key}=${value}`);
  const path = (key: Name): Name => paths.get(key) ?? refuse(`${key}= is missing`);
  return { source: path('source'), basedir: path('basedir'), rest };
}
