/** `lowerdata install-helper`: what mount(8) calls for `mount -t lowerdata`, with an interpreter that is found without a PATH. */
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

/** One for each type by which a mount may be asked for. */
const HELPERS = ['mount.lowerdata', 'mount.fuse.lowerdata'];
/** Where mount(8) of util-linux looks first. */
const PLACE = '/sbin';
/** By this line a file is known as one of ours. */
const MARK = '# Written by `lowerdata install-helper`, which replaces it; `--remove` removes it.';

export const define = (): Command =>
  newCommand('lowerdata install-helper')
    .description(
      'Have `mount -t lowerdata A:B::C MOUNTPOINT`, /etc/fstab and mount units of systemd work: write the programs that mount(8) calls.',
    )
    .usage('[options]')
    .option('--to <dir>', 'where, if not in /sbin, where mount(8) looks')
    .option('--remove', 'remove them')
    .option('--force', 'write them although others than root can change what they run')
    .addHelpText('after', `\n${NOTES}`);

const NOTES = `They are ${HELPERS.join(' and ')}. They name this Node.js and this copy of lowerdata: when either one moves, write them again.
Files of these names that this command has not written stay as they are.
Root runs both when it mounts, so nobody else may be able to change them: what another user owns or can write to is refused.
Exit status: 0, or 1 where a file was not written or removed.`;

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
      else await new Output(path).write(bufferOf(byteStringFromText(helperText(name))), 0o755); // a mount may be under way
    return 0;
  });
}

/** What the helpers run, as root. */
const programs = (): string[] => [process.execPath, launcher, ...moduleDirectories([]).slice(1), dirname(bundle)];
const bundle = join(packageDirectory, 'dist', 'bin', 'lowerdata.cjs');

/** @throws ErrnoError EPERM, or with `force` warns, where others could have root run what they like */
function judgePrograms(force: boolean): void {
  for (const program of programs()) {
    const part = existsSync(program) ? writableByOthers(program) : undefined;
    if (part === undefined) continue;
    const what = `${program}: root would run it, but ${part}`;
    if (!force) throw new ErrnoError(EPERM, `${what}; install it where root alone can write, or use --force`);
    complain(`warning: ${what}`);
  }
}

/** @throws ErrnoError EEXIST where a file is there that this command has not written */
function refuseForeign(shown: ByteString, path: Buffer): void {
  const known = lstatSync(path, { throwIfNoEntry: false });
  if (!known || (known.isFile() && readFileSync(path, 'latin1').includes(`\n${MARK}\n`))) return;
  throw new ErrnoError(EEXIST, `${printable(shown)}: not written by this command; it stays as it is`);
}

/** mount(8) gives its helpers the PATH of its caller, or none. */
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
