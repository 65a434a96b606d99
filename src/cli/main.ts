#!/usr/bin/env node
/** The command line. A command is loaded when it is called. */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { type Name, printable } from '../sys/bytes.ts';
import { argumentBytes, DAEMON_WORD } from './argv.ts';
import type { Caller } from './mount.ts';

/** Runs a command. @returns its exit status */
type Run = (args: readonly Name[]) => Promise<number>;

interface Entry {
  readonly usage: string;
  readonly what: string;
  readonly load: () => Promise<Run>;
}

const mountFor =
  (caller: Caller): (() => Promise<Run>) =>
  async () => {
    const { run } = await import('./mount.ts');
    return args => run(args, caller);
  };

const commands = new Map<Name, Entry>([
  ['mount', { usage: 'mount A:B::C|IMAGE MOUNTPOINT', what: 'mount a stack or an image', load: mountFor('person') }],
  ['umount', { usage: 'umount MOUNTPOINT', what: 'unmount it', load: async () => (await import('./umount.ts')).run }],
  [
    'status',
    {
      usage: 'status [MOUNTPOINT]',
      what: 'show what mounts are made of, and what protects them',
      load: async () => (await import('./status.ts')).run,
    },
  ],
  ['ls', { usage: 'ls STACK PATH...', what: 'list directories', load: async () => (await import('./ls.ts')).run }],
  ['cat', { usage: 'cat STACK PATH...', what: 'print files', load: async () => (await import('./cat.ts')).run }],
  ['stat', { usage: 'stat STACK PATH...', what: 'show attributes', load: async () => (await import('./stat.ts')).run }],
  [
    'check',
    {
      usage: 'check STACK',
      what: 'find redirects that another layer captures, and missing data',
      load: async () => (await import('./check.ts')).run,
    },
  ],
  [
    'explain',
    {
      usage: 'explain STACK PATH...',
      what: 'show which rules of lookup lead where',
      load: async () => (await import('./explain.ts')).run,
    },
  ],
  [
    'mkfs',
    {
      usage: 'mkfs DIR IMAGE',
      what: 'make an image of a directory',
      load: async () => (await import('./mkfs.ts')).run,
    },
  ],
  [
    'relink',
    {
      usage: 'relink IMAGE -o NEW --to HOW',
      what: 'convert how an image leads to its objects',
      load: async () => (await import('./relink.ts')).run,
    },
  ],
  [
    'fsck',
    { usage: 'fsck STACK', what: 'check every object of a stack', load: async () => (await import('./fsck.ts')).run },
  ],
  [
    'index',
    {
      usage: 'index DIR...',
      what: 'note handles, for users who may not open files by them',
      load: async () => (await import('./index-handles.ts')).run,
    },
  ],
  [
    'info',
    {
      usage: 'info QUESTION IMAGE...',
      what: 'show what is in images',
      load: async () => (await import('./info.ts')).run,
    },
  ],
  [
    'doctor',
    {
      usage: 'doctor [DIR...]',
      what: 'show what this machine can do, and what would change that',
      load: async () => (await import('./doctor.ts')).run,
    },
  ],
  [
    'compare',
    {
      usage: 'compare A B',
      what: 'compare two trees, field by field',
      load: async () => (await import('./compare.ts')).run,
    },
  ],
]);

/** What mount(8) and mount.fuse3 call by name. */
const HELPERS = ['mount.lowerdata', 'mount.fuse.lowerdata'];
/** The programs of composefs that a symlink to this command can replace. */
const TOOLS = ['mkcomposefs', 'composefs-info', 'mount.composefs', 'composefs-fuse'];

async function main(args: readonly Name[]): Promise<number> {
  const [first = ''] = args;
  if (first === DAEMON_WORD) return (await import('./launch.ts')).runDaemon();
  const called = basename(process.argv[1] ?? '');
  if (HELPERS.includes(called)) return (await mountFor('mount(8)')())(args);
  if (TOOLS.includes(called)) return (await import('./tools.ts')).runTool(called, args);
  const command = commands.get(first);
  if (command) return (await command.load())(args.slice(1));
  if (first === '-V' || first === '--version') return print(`lowerdata ${version()}`);
  if (first === '-h' || first === '--help' || first === 'help') return print(help());
  // `lowerdata SOURCE MOUNTPOINT -o …`, as mount.fuse3 calls a filesystem
  if (args.length > 1 && first !== '' && !first.startsWith('-')) return (await mountFor('program')())(args);
  process.stderr.write(args.length === 0 ? `${help()}\n` : `lowerdata: ${printable(first)}: no such command\n`);
  return 1;
}

function print(text: string): number {
  process.stdout.write(`${text}\n`);
  return 0;
}

function version(): string {
  const file = new URL('../../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

function help(): string {
  const width = Math.max(...[...commands.values()].map(({ usage }) => usage.length));
  const lines = [...commands.values()].map(({ usage, what }) => `  lowerdata ${usage.padEnd(width)}  ${what}`);
  return ['Mounts composefs images and overlay layer stacks in userspace.', '', ...lines, '', FOOTER].join('\n');
}
const FOOTER = '`lowerdata COMMAND --help` shows the options of a command.';

process.exitCode = await main(argumentBytes());
