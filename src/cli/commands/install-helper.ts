/**
 * `lowerdata install-helper`: writes the programs that mount(8) calls for `mount -t lowerdata`, or a unit of systemd. They name
 * the interpreter by its full path, because PATH may be unset.
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
/** The units, in the folder `systemd` of the package and in their own place. */
const UNITS = ['lowerdata@.service', 'lowerdata.socket', 'lowerdata.service'];
/** The directory of the administrator's units. Source: systemd.unit(5). */
const UNIT_PLACE = '/etc/systemd/system';
/** The line that identifies a file as written by this command. */
const MARK = '# Written by `lowerdata install-helper`, which replaces it; `--remove` removes it.';

export const define = (): Command =>
  newCommand('lowerdata install-helper')
    .description(
      'Write the programs that mount(8) calls for `mount -t lowerdata A:B::C MOUNTPOINT`, /etc/fstab and mount units of systemd.',
    )
    .usage('[options]')
    .option('--systemd', `write the units ${UNITS.join(', ')} instead`)
    .option(
      '--to <dir>',
      `the directory to write to; default: ${PLACE}, where mount(8) looks, or ${UNIT_PLACE} with --systemd`,
    )
    .option('--remove', 'remove what was written')
    .option('--force', 'write even if users other than root can change what they run')
    .addHelpText('after', `\n${NOTES}`);

const NOTES = `The programs are ${HELPERS.join(' and ')}. They and the units name this Node.js and this copy of lowerdata: if either one moves, write them again.
Files of these names that this command has not written stay as they are.
Root runs both when it mounts, so nobody else may be able to change them: what another user owns or can write to is refused.
After --systemd: \`systemctl daemon-reload\`, then \`systemctl enable --now lowerdata@NAME\` for each /etc/lowerdata/NAME.conf,
or \`systemctl enable --now lowerdata.socket\` for the service (lowerdata-serve(8)).
Exit status: 0, or 1 if a file was not written or removed.`;

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const { systemd, to, remove, force } = command.opts<InstallFlags>();
  return reporting(WRONG_CALL, async () => {
    if (!remove && process.geteuid?.() === 0) judgePrograms(force === true);
    const files = systemd ? UNITS.map(unitFile) : HELPERS.map(helperFile);
    const place = to ?? (systemd ? UNIT_PLACE : PLACE);
    for (const { name } of files) refuseForeign(`${place}/${name}`, bufferOf(join(place, name)));
    for (const { name, mode, text } of files)
      if (remove) rmSync(bufferOf(join(place, name)), { force: true });
      else await new Output(join(place, name)).write(bufferOf(byteStringFromText(text())), mode); // atomic, as a mount may run it
    return 0;
  });
}

interface InstallFlags {
  readonly systemd?: true;
  readonly to?: ByteString;
  readonly remove?: true;
  readonly force?: true;
}

interface InstalledFile {
  readonly name: string;
  readonly mode: number;
  readonly text: () => string;
}

const helperFile = (name: string): InstalledFile => ({ name, mode: 0o755, text: () => helperText(name) });
const unitFile = (name: string): InstalledFile => ({ name, mode: 0o644, text: () => unitText(name) });

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

/** A unit of the package, with the full paths of this Node.js and this copy of lowerdata. */
function unitText(name: string): string {
  const text = readFileSync(join(packageDirectory, 'systemd', name), 'utf8');
  const program = unitWord(resolve(launcher));
  return text
    .replace(/\n\n\[Unit\]/, () => `\n${MARK}\n\n[Unit]`)
    .replace(/\n\[Service\]\n/, section => `${section}Environment=${unitWord(`LOWERDATA_NODE=${process.execPath}`)}\n`)
    .replace(/^(Exec\w+=)lowerdata /gm, (_, key: string) => `${key}${program} `);
}

/** Text as one word of a unit's setting. Source: systemd.syntax(7), "Quoting"; systemd.unit(5), "Specifiers". */
const unitWord = (text: string): string => `"${text.replace(/["\\]/g, '\\$&').replaceAll('%', '%%')}"`;

/** A path as one word of the shell. */
const quoted = (path: string): string => `'${path.replaceAll("'", "'\\''")}'`;
