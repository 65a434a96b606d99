/** `lowerdata status`: what the mounts of this user are made of, and what protects them. */
import type { Command } from 'commander';
import { protectionText } from '../driver/protection.ts';
import { type Name, nameFromText, printable } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';
import { newCommand, parse } from './command.ts';
import { printLines } from './output.ts';
import { reporting } from './report.ts';
import { type MountState, readState, readStates } from './state.ts';
import { findMount } from './umount.ts';

const FAILED = 1;

export const define = (): Command =>
  newCommand('lowerdata status')
    .description('Show what mounts are made of, and what protects them.')
    .usage('[options] [MOUNTPOINT]')
    .argument('[mountpoint]', 'one mount; all of this user without it')
    .option('--json', 'a JSON array, one object a mount');

export async function run(args: readonly Name[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const [mountpoint] = command.args as [Name?];
  const { json } = command.opts<{ json?: true }>();
  return reporting(FAILED, async () => {
    const states = mountpoint === undefined ? readStates() : [stateOf(mountpoint)];
    await printLines(json ? [nameFromText(JSON.stringify(states.map(asJson), undefined, 2))] : states.flatMap(asText));
    return 0;
  });
}

function stateOf(mountpoint: Name): MountState {
  const mount = findMount(mountpoint);
  const state = mount && readState(mount.device);
  if (!state) throw new ErrnoError(EINVAL, `${printable(mountpoint)}: not a mount of lowerdata and of this user`);
  return state;
}

/** Byte strings become text, as messages show them. */
function asJson({ layers, mountpoint, source, ...state }: MountState): unknown {
  return {
    mountpoint: printable(mountpoint),
    source: printable(source),
    ...state,
    layers: layers.map(({ path, dataOnly }) => ({ path: printable(path), dataOnly })),
  };
}

function asText({ mountpoint, source, pid, startedAt, transport, layers, protection }: MountState): Name[] {
  return [
    printable(mountpoint),
    `  source      ${printable(source)}`,
    `  layers      ${layers.map(({ path, dataOnly }) => `${dataOnly ? '::' : ''}${printable(path)}`).join(' ')}`,
    `  daemon      ${pid}, since ${new Date(startedAt).toISOString()}, transport ${transport}`,
    `  protection  ${protectionText(protection)}`,
  ].map(nameFromText);
}
