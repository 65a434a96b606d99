/**
 * `lowerdata install-helper`: writes the programs that mount(8) calls for `mount -t lowerdata`. They name the interpreter by its
 * full path, because PATH may be unset.
 */
import { existsSync, lstatSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import type { Command } from 'commander';
import { launcher } from '../../mount/launch.ts';
import { type ByteString, bufferOf, byteStringFromText, printable } from '../../sys/bytes.ts';
import { EEXIST, EPERM, ErrnoError } from '../../sys/errno.ts';
import { moduleDirectories, packageDirectory } from '../../sys/native.ts';
import { Output } from '../../terminal/output-file.ts';
import { complain, reporting, WRONG_CALL } from '../../terminal/report.ts';
import { newCommand, parse } from '../command.ts';
import { writableByOthers } from '../root-owned.ts';

/** One program for each filesystem type that selects this driver. */
const HELPERS = ['mount.lowerdata', 'mount.fuse.lowerdata'];
/** The directory that mount(8) of util-linux searches first. */
const PLACE = '/sbin';
/** The line that identifies a file as written by this command. */
const MARK = '# Written by `lowerdata install-helper`, which replaces it; `--remove` removes it.';

export const define = (): Command =>
  newCommand('lowerdata install-helper')
    .description(
      'Write the programs that mount(8) calls for `mount -t lowerdata A:B::C MOUNTPOINT`, /etc/fstab and mount units of systemd.',
    )
    .usage('[options]')
    .option('--to <dir>', 'the directory to write them to; default: /sbin, where mount(8) looks')
    .option('--remove', 'remove them')
    .option('--force', 'write them even if users other than root can change what they run')
    .addHelpText('after', `\n${NOTES}`);

const NOTES = `They are ${HELPERS.join(' and ')}. They name this Node.js and this copy of lowerdata: if either one moves, write them again.
Files of these names that this command has not written stay as they are.
Root runs both when it mounts, so nobody else may be able to change them: what another user owns or can write to is refused.
Exit status: 0, or 1 if a file was not written or removed.`;

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const { to = PLACE, remove, force } = command.opts<{ to?: ByteString; remove?: true; force?: true }>();
  return reporting(WRONG_CALL, async () => {
    if (!remove && process.geteuid?.() === 0) judgePrograms(force === true);
    const files = HELPERS.map(name => ({ name, path: join(to, name) }));
    for (const { name, path } of files) refuseForeign(`${to}/${name}`, bufferOf(path));
    for (const { name, path } of files)
      if (remove) rmSync(bufferOf(path), { force: true });
      else await new Output(path).write(bufferOf(byteStringFromText(helperText(name))), 0o755); // atomic, as a mount may run it
    return 0;
  });
}

/** The programs and directories whose code the helpers run as root. */
const programs = (): string[] => [process.execPath, launcher, ...moduleDirectories([]).slice(1), dirname(bundle)];
const bundle = join(packageDirectory, 'dist', 'bin', 'lowerdata.cjs');

/** @throws ErrnoError EPERM if other users could change a program that root would run; with `force` it warns instead */
function judgePrograms(force: boolean): void {
  for (const program of programs()) {
    const part = existsSync(program) ? writableByOthers(program) : undefined;
    if (part === undefined) continue;
    const what = `${program}: root would run it, but ${part}`;
    if (!force) throw new ErrnoError(EPERM, `${what}; install it where root alone can write, or use --force`);
    complain(`warning: ${what}`);
  }
}

/** @throws ErrnoError EEXIST if the file exists and was not written by this command */
function refuseForeign(shown: ByteString, path: Buffer): void {
  const known = lstatSync(path, { throwIfNoEntry: false });
  if (!known || (known.isFile() && readFileSync(path, 'latin1').includes(`\n${MARK}\n`))) return;
  throw new ErrnoError(EEXIST, `${printable(shown)}: not written by this command; it stays as it is`);
}

/** The text of a helper. mount(8) gives its helpers the PATH of its caller, or none. */
function helperText(name: string): string {
  return `#!/bin/sh
${MARK}
PATH=\${PATH:+$PATH:}/usr/sbin:/usr/bin:/sbin:/bin
LOWERDATA_NODE=${quoted(process.execPath)}
export PATH LOWERDATA_NODE
exec ${quoted(resolve(launcher))} --called ${name} "$@"
`;
}

/** A path as one word of the shell. */
const quoted = (path: string): string => `'${path.replaceAll("'", "'\\''")}'`;
