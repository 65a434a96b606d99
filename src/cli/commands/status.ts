/** `lowerdata status`: shows what this user's mounts consist of, what protects them, and what they are doing. */
import type { Command } from 'commander';
import { confinementDetails } from '../../driver/confinement.ts';
import { protectionText } from '../../driver/protection.ts';
import { isSame, type Mount, readMounts } from '../../fuse/mountinfo.ts';
import { liveText } from '../../mount/activity-text.ts';
import { askDaemon } from '../../mount/control-socket.ts';
import { findMount } from '../../mount/find-mount.ts';
import { findingFields } from '../../mount/finding.ts';
import { type LiveMountState, metricsOf } from '../../mount/prometheus.ts';
import { type MountState, readState, readStates } from '../../mount/state.ts';
import { type ByteString, byteStringFromText, printable } from '../../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../../sys/errno.ts';
import { inInitialUserNamespace } from '../../sys/security/privileges.ts';
import { secondsText } from '../../terminal/attributes.ts';
import { documentLines } from '../../terminal/json-lines.ts';
import { printLines } from '../../terminal/output.ts';
import { reporting } from '../../terminal/report.ts';
import { newCommand, parse } from '../command.ts';

const FAILED = 1;

export const define = (): Command =>
  newCommand('lowerdata status')
    .description('Show the layers, the protection and the activity of mounts.')
    .usage('[options] [MOUNTPOINT]')
    .argument('[mountpoint]', 'one mount; without it, all mounts of this user')
    .option('--json', 'print JSON')
    .option('--metrics', 'the numbers in the text format of Prometheus')
    .addHelpText('after', `\n${NOTES}`);

const NOTES = `Numbers are counted since the mount, and times until the answer is made. A \`check\` compares data with its digest: it was
\`measured\`, \`remembered\` from an earlier check, measured by the kernel, or failed. What the kernel answers from its own caches
is in none of these numbers. On SIGUSR1 a daemon writes them to its log.`;

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const [mountpoint] = command.args as [ByteString?];
  const { json, metrics } = command.opts<{ json?: true; metrics?: true }>();
  return reporting(FAILED, async () => {
    if (json && metrics) throw new ErrnoError(EINVAL, '--json and --metrics exclude each other');
    const shown = mountpoint === undefined ? allMounts() : [mountOf(mountpoint)];
    const recorded = shown.filter(one => isRecorded(one));
    const mounts = await Promise.all(recorded.map(async state => ({ state, live: await askDaemon(state.socket) })));
    const others = shown.filter(one => !isRecorded(one)) as Mount[];
    if (metrics) printLines(metricsOf(mounts).map(byteStringFromText));
    else if (json) printLines(documentLines({ mounts: [...mounts.map(asJson), ...others.map(unrecordedAsJson)] }));
    else printLines([...mounts.flatMap(asText), ...others.flatMap(unrecordedAsText)]);
    return 0;
  });
}

/** A daemon's record of its mount; only the row of the mount table if the daemon could not write a record or is dead. */
type Shown = MountState | Mount;
const isRecorded = (shown: Shown): shown is MountState => 'pid' in shown;

/** The mounts of this user. In a user namespace all users outside it look alike, so only mounts with records count there. */
function allMounts(): Shown[] {
  const table = readMounts();
  const states = readStates();
  const known = states.map(state => atPresent(state, table));
  const isOther = (mount: Mount): boolean => isOwn(mount) && !states.some(state => isSame(state, mount));
  return inInitialUserNamespace() ? [...known, ...table.filter(isOther)] : known;
}

function mountOf(mountpoint: ByteString): Shown {
  const mount = findMount(mountpoint);
  const state = mount && readState(mount);
  if (state) return { ...state, mountpoint: mount.path };
  if (mount && isOwn(mount)) return mount;
  throw new ErrnoError(EINVAL, `${printable(mountpoint)}: not a mount of lowerdata and of this user`);
}

const isOwn = ({ type, user }: Mount): boolean => type === 'fuse.lowerdata' && user === process.geteuid?.();

/**
 * The record with the present mountpoint, as the mount may have been moved. In another mount namespace the recorded one stays.
 */
function atPresent(state: MountState, table: readonly Mount[]): MountState {
  const places = table.filter(mount => isSame(state, mount)).map(({ path }) => path);
  const last = places.at(-1);
  return last === undefined || places.includes(state.mountpoint) ? state : { ...state, mountpoint: last };
}

/** A mount as JSON. Byte strings become text, as in messages. */
function asJson({ state, live }: LiveMountState): unknown {
  const { mountpoint, source, pid, device, startedAt, transport, layers, protection, confinement, finding } = state;
  const { upperdir, workdir } = state.upper ?? {};
  const { store, name } = state.stored ?? {};
  return {
    mountpoint: printable(mountpoint),
    source: printable(source),
    pid,
    device,
    startedAt: secondsText(Math.floor(startedAt / 1000), (startedAt % 1000) * 1e6),
    transport,
    layers: layers.map(({ path, dataOnly }) => ({ path: printable(path), dataOnly })),
    store: store === undefined ? null : printable(store),
    name: name === undefined ? null : printable(name),
    upperdir: upperdir === undefined ? null : printable(upperdir),
    workdir: workdir === undefined ? null : printable(workdir),
    protection,
    confinement,
    finding: finding ? findingFields(finding) : null,
    process: live?.process ?? null,
    activity: live?.activity ?? null,
  };
}

function asText({ state, live }: LiveMountState): ByteString[] {
  const { mountpoint, source, pid, startedAt, transport, layers, protection, confinement, finding } = state;
  return [
    printable(mountpoint),
    `  source      ${printable(source)}`,
    `  layers      ${layers.map(({ path, dataOnly }) => `${dataOnly ? '::' : ''}${printable(path)}`).join(' ')}`,
    ...(state.stored ? [`  image       ${printable(state.stored.name)} in ${printable(state.stored.store)}`] : []),
    ...(state.upper
      ? [`  written to  ${printable(state.upper.upperdir)}, work ${printable(state.upper.workdir)}`]
      : []),
    `  daemon      ${pid}, since ${new Date(startedAt).toISOString()}, transport ${transport}`,
    `  protection  ${protectionText(protection)}`,
    `  confinement ${confinementDetails(confinement)}`,
    ...(finding ? [`  finding     ${finding.message}; ${finding.help}`] : []),
    ...liveText(live),
  ].map(byteStringFromText);
}

const unrecordedAsText = ({ path, source }: Mount): ByteString[] =>
  [printable(path), `  source      ${printable(source)}`, `  daemon      ${UNRECORDED}`].map(byteStringFromText);
const UNRECORDED = 'not known: it is dead, or had no runtime directory of its own to write to';

/** A mount without a record, with the same keys; unknown values are null. */
const unrecordedAsJson = ({ path, source, device }: Mount): unknown => ({
  mountpoint: printable(path),
  source: printable(source),
  pid: null,
  device,
  startedAt: null,
  transport: null,
  layers: [],
  store: null,
  name: null,
  upperdir: null,
  workdir: null,
  protection: null,
  confinement: null,
  finding: null,
  process: null,
  activity: null,
});
