/** `lowerdata status`: what the mounts of this user are made of, what protects them, and what they are doing. */
import type { Command } from 'commander';
import { confinementDetails } from '../driver/confinement.ts';
import { protectionText } from '../driver/protection.ts';
import { type Name, nameFromText, printable } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';
import { newCommand, parse } from './command.ts';
import { askDaemon } from './live.ts';
import { liveText } from './live-text.ts';
import { type LiveMountState, metricsOf } from './metrics.ts';
import { print, printLines } from './output.ts';
import { reporting } from './report.ts';
import { type MountState, readState, readStates } from './state.ts';
import { findMount } from './umount.ts';

const FAILED = 1;

export const define = (): Command =>
  newCommand('lowerdata status')
    .description('Show what mounts are made of, what protects them, and what they are doing.')
    .usage('[options] [MOUNTPOINT]')
    .argument('[mountpoint]', 'one mount; all of this user without it')
    .option('--json', 'a JSON array, one object a mount')
    .option('--metrics', 'the numbers in the text format of Prometheus')
    .addHelpText('after', `\n${NOTES}`);

const NOTES = `Numbers are counted since the mount, and times until the answer is made. A \`check\` compares data with its digest: it was
\`measured\`, \`remembered\` from an earlier check, measured by the kernel, or failed. What the kernel answers from its own caches
is in none of these numbers. SIGUSR1 has a daemon write them to its log.`;

export async function run(args: readonly Name[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const [mountpoint] = command.args as [Name?];
  const { json, metrics } = command.opts<{ json?: true; metrics?: true }>();
  return reporting(FAILED, async () => {
    if (json && metrics) throw new ErrnoError(EINVAL, '--json and --metrics exclude each other');
    const states = mountpoint === undefined ? readStates() : [stateOf(mountpoint)];
    const mounts = await Promise.all(states.map(async state => ({ state, live: await askDaemon(state.socket) })));
    if (metrics) printLines(metricsOf(mounts).map(nameFromText));
    else if (json) print(nameFromText(`${JSON.stringify(mounts.map(asJson), undefined, 2)}\n`));
    else printLines(mounts.flatMap(asText));
    return 0;
  });
}

function stateOf(mountpoint: Name): MountState {
  const mount = findMount(mountpoint);
  const state = mount && readState(mount);
  if (!state) throw new ErrnoError(EINVAL, `${printable(mountpoint)}: not a mount of lowerdata and of this user`);
  return state;
}

/** Byte strings become text, as messages show them. */
function asJson({ state, live }: LiveMountState): unknown {
  const { layers, mountpoint, source, pidStartedAt: _, socket: __, ...rest } = state;
  return {
    mountpoint: printable(mountpoint),
    source: printable(source),
    ...rest,
    layers: layers.map(({ path, dataOnly }) => ({ path: printable(path), dataOnly })),
    process: live?.process ?? null,
    activity: live?.activity ?? null,
  };
}

function asText({ state, live }: LiveMountState): Name[] {
  const { mountpoint, source, pid, startedAt, transport, layers, protection, confinement } = state;
  return [
    printable(mountpoint),
    `  source      ${printable(source)}`,
    `  layers      ${layers.map(({ path, dataOnly }) => `${dataOnly ? '::' : ''}${printable(path)}`).join(' ')}`,
    `  daemon      ${pid}, since ${new Date(startedAt).toISOString()}, transport ${transport}`,
    `  protection  ${protectionText(protection)}`,
    `  confinement ${confinementDetails(confinement)}`,
    ...liveText(live),
  ].map(nameFromText);
}
