#!/usr/bin/env node
/** The command line. */
import { readFileSync } from 'node:fs';
import { type Name, printable } from '../sys/bytes.ts';
import { type Call, readCall } from './argv.ts';
import { commands } from './commands.ts';

/** What mount(8) and mount.fuse3 call by name. */
const HELPERS = ['mount.lowerdata', 'mount.fuse.lowerdata'];
/** The programs of composefs that a symlink to this command can replace. */
const TOOLS = ['mkcomposefs', 'composefs-info', 'mount.composefs', 'composefs-fuse'];

async function main(called: string, args: readonly Name[]): Promise<number> {
  const [first = ''] = args;
  if (HELPERS.includes(called)) return (await import('./mount.ts')).run(args, 'mount(8)');
  if (TOOLS.includes(called)) return (await import('./tools.ts')).runTool(called, args);
  const command = commands.get(first);
  if (command) return (await command.load()).run(args.slice(1));
  if (first === '-V' || first === '--version') return print(`lowerdata ${version()}`);
  if (first === '-h' || first === '--help' || first === 'help') return print(help());
  // `lowerdata SOURCE MOUNTPOINT -o …`, as mount.fuse3 calls a filesystem
  if (args.length > 1 && first !== '' && !first.startsWith('-')) {
    return (await import('./mount.ts')).run(args, 'mount.fuse3');
  }
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

/** The exit status goes to whoever waits for this process. */
async function start({ called, args, isDaemon }: Call): Promise<void> {
  if (isDaemon) (await import('./launch.ts')).detach();
  const status = await main(called, args);
  if (isDaemon) (await import('./launch.ts')).leaveAsDaemon(status);
  process.exitCode = status;
}

void start(readCall());
