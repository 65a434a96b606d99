#!/usr/bin/env node
/** The entry point of the command line. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Call, readCall } from '../mount/argv.ts';
import { type ByteString, bufferOf } from '../sys/bytes.ts';
import { packageDirectory } from '../sys/native.ts';
import { closeStdout, print } from '../terminal/output.ts';
import { complainInLines, reporting, WRONG_CALL } from '../terminal/report.ts';
import { commands } from './commands.ts';
import { isProgramCall, runMountProgram } from './mount-program.ts';

/** The names under which mount(8) and mount.fuse3 call this command. */
const HELPERS = ['mount.lowerdata', 'mount.fuse.lowerdata'];
/** The composefs programs that a symlink to this command can replace. */
const TOOLS = ['mkcomposefs', 'composefs-info', 'mount.composefs', 'composefs-fuse'];

async function main(called: string, args: readonly ByteString[]): Promise<number> {
  const [first = ''] = args;
  if (HELPERS.includes(called)) return (await import('./commands/mount.ts')).run(args, 'mount(8)');
  if (TOOLS.includes(called)) return (await import('./composefs-tools.ts')).runTool(called, args);
  const command = commands.get(first);
  if (command) return (await command.load()).run(args.slice(1));
  if (VERSION_WORDS.includes(first)) return reporting(WRONG_CALL, () => say(`lowerdata ${version()}`));
  if (HELP_WORDS.includes(first)) return helpOn(args[1]);
  if (isProgramCall(called, args)) return runMountProgram(args);
  if (isBareMount(args)) return (await import('./commands/mount.ts')).run(args, 'mount.fuse3');
  if (args.length > 0) return (await import('./command.ts')).refuseCommand([...commands.keys()], first);
  complainInLines(`${help()}\n`);
  return WRONG_CALL;
}

const VERSION_WORDS: readonly ByteString[] = ['-V', '-v', '--version', 'version'];
const HELP_WORDS: readonly ByteString[] = ['-h', '--help', 'help'];

/** `lowerdata help COMMAND`. */
async function helpOn(name: ByteString | undefined): Promise<number> {
  if (name === undefined) return reporting(WRONG_CALL, () => say(help()));
  const command = commands.get(name);
  if (command) return (await command.load()).run(['--help']);
  return (await import('./command.ts')).refuseCommand([...commands.keys()], name);
}

/**
 * Whether the arguments are `SOURCE MOUNTPOINT -o …`, the form in which mount.fuse3 calls a filesystem. SOURCE must look like
 * layers, or an option must give them: otherwise a mistyped command would become a mount.
 */
function isBareMount([source = '', ...others]: readonly ByteString[]): boolean {
  if (source === '' || source.startsWith('-') || others.length === 0) return false;
  return (
    /[/:]/.test(source) || others.some(word => /(^|,)(lowerdir\+?|store)=/.test(word)) || existsSync(bufferOf(source))
  );
}

function say(text: string): number {
  print(`${text}\n`);
  return 0;
}

function version(): string {
  const file = join(packageDirectory, 'package.json');
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

function help(): string {
  const width = Math.max(...[...commands.values()].map(({ usage }) => usage.length));
  const lines = [...commands.values()].map(({ usage, what }) => `  lowerdata ${usage.padEnd(width)}  ${what}`);
  return ['Mounts composefs images and overlay layer stacks in userspace.', '', ...lines, '', FOOTER].join('\n');
}
const FOOTER = '`lowerdata COMMAND --help` shows the options of a command.';

/** Runs the command. The exit status goes to the parent process, or from a daemon to the process that started it. */
async function start({ called, args, channel, deaths, isServer, isHelper }: Call): Promise<void> {
  if (isServer) return (await import('../service/server/main.ts')).serveMounts();
  if (isHelper) return (await import('../service/helper/main.ts')).help();
  if (deaths !== undefined) return (await import('../mount/restart/resume.ts')).resume(deaths);
  if (channel !== undefined) (await import('../mount/launch.ts')).detach();
  const status = await main(called, args);
  if (channel !== undefined) (await import('../mount/launch.ts')).leaveAsDaemon(status);
  process.exitCode = await reporting(Math.max(status, WRONG_CALL), () => {
    closeStdout();
    return status;
  });
}

void start(readCall());
