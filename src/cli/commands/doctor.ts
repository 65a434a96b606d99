/** `lowerdata doctor`: reports the capabilities of this machine for this user, and changes that would add missing ones. */
import type { Command } from 'commander';
import { askAll, type Fact, factOf } from '../../doctor/facts.ts';
import { GROUPS, type Standing, standingOf } from '../../doctor/groups.ts';
import { lookAtMachine } from '../../doctor/machine.ts';
import { probeDirectory } from '../../doctor/probes-directory.ts';
import { baseProbes, kernelProbes } from '../../doctor/probes-kernel.ts';
import { mountProbes } from '../../doctor/probes-mount.ts';
import { type ByteString, byteStringFromText, printable } from '../../sys/bytes.ts';
import { documentLines } from '../../terminal/json-lines.ts';
import { printLines, terminalColumns, wrapped } from '../../terminal/output.ts';
import { reporting } from '../../terminal/report.ts';
import { newCommand, parse } from '../command.ts';

const NO_MOUNTS = 1;
/** The narrowest text. */
const COLUMNS_MIN = 40;

/** The summary of all facts. */
interface Conclusion {
  /** The means by which mounts are made; null if this user cannot mount. */
  readonly mounts: 'mount' | 'fusermount3' | null;
  /** The reader of a mount's data; null if this user cannot mount. */
  readonly data: 'kernel' | 'lowerdata' | null;
  readonly origins: 'handles' | 'index';
  readonly text: string;
}

interface Report {
  readonly facts: readonly Fact[];
  readonly directories: readonly { readonly path: string; readonly facts: readonly Fact[] }[];
  readonly conclusion: Conclusion;
}

export const define = (): Command =>
  newCommand('lowerdata doctor')
    .description(
      'Show what this machine supports for this user and, for each missing capability, the reason and the remedy.',
    )
    .usage('[options] [DIR...]')
    .argument('[dirs...]', 'directories, such as object stores, whose filesystems are examined as well')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nWithout what is `missing` nothing can be mounted; mounts do without what is `no`. After → stands the remedy.\nNothing is changed.\nExit status: 0 if this user can mount, otherwise 1.',
    );

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const { json } = command.opts<{ json?: true }>();
  return reporting(NO_MOUNTS, async () => {
    const report = examine(command.args);
    if (json) printLines(documentLines(report));
    else printLines(asText(report, Math.max(COLUMNS_MIN, terminalColumns())).map(byteStringFromText));
    return report.conclusion.mounts === null ? NO_MOUNTS : 0;
  });
}

function examine(paths: readonly ByteString[]): Report {
  const machine = lookAtMachine();
  const facts = askAll([...baseProbes, ...mountProbes, ...kernelProbes], machine);
  const directories = paths.map(path => ({ path: printable(path), facts: probeDirectory(path, machine) }));
  return { facts, directories, conclusion: conclude(facts) };
}

function conclude(facts: readonly Fact[]): Conclusion {
  const has = (name: string): boolean => factOf(facts, name).ok;
  const means = has('mount') ? 'mount' : has('fusermount3') ? 'fusermount3' : null;
  const mounts = has('fuse-device') ? means : null;
  const data = mounts === null ? null : has('passthrough') ? 'kernel' : 'lowerdata';
  const origins = has('open-by-handle') ? 'handles' : 'index';
  const first =
    mounts === null
      ? `do not work: ${whyNot(facts)}`
      : `work by ${mounts === 'mount' ? factOf(facts, mounts).value : mounts}`;
  const second = data === null ? [] : [`data is read by ${READERS[data]}`];
  const text = `${[`For this user mounts ${first}`, ...second, `origins are followed by ${WAYS[origins]}`].join('; ')}.`;
  return { mounts, data, origins, text };
}

const READERS = { kernel: 'the kernel itself (passthrough)', lowerdata: 'the process of the mount' } as const;
const WAYS = { handles: 'open_by_handle_at(2)', index: 'only the index of `lowerdata index`' } as const;

function whyNot(facts: readonly Fact[]): string {
  const missing = ['fuse-device', 'fusermount3'].map(name => factOf(facts, name)).find(({ ok }) => !ok);
  return missing?.why ?? 'for an unknown reason';
}

function asText({ facts, directories, conclusion }: Report, width: number): string[] {
  const groups = GROUPS.flatMap(({ title, names }) => [
    ...wrapped('', title, width),
    ...names.flatMap(name => factLines(factOf(facts, name), standingOf(factOf(facts, name), facts), width)),
    '',
  ]);
  const blocks = directories.flatMap(({ path, facts }) => [
    `Directory ${path}`,
    ...facts.flatMap(fact => factLines(fact, fact.ok ? 'yes' : 'no', width)),
    '',
  ]);
  return [...groups, ...blocks, ...wrapped('', conclusion.text, width)];
}

/** The lines of a fact: its value, or the reason why it is missing followed by the remedy. */
function factLines({ name, ok, value, why, help }: Fact, standing: Standing, width: number): string[] {
  const start = `  ${standing.padEnd(STANDING_COLUMNS)}${name.padEnd(NAME_COLUMNS)}`;
  if (ok) return wrapped(start, value ?? '', width);
  const first = wrapped(start, [value, why].filter(part => part !== null).join(': '), width);
  return [...first, ...wrapped(`${' '.repeat(start.length)}→ `, help ?? '', width)];
}
const STANDING_COLUMNS = 'missing  '.length;
const NAME_COLUMNS = 'overlay-data-only  '.length;
