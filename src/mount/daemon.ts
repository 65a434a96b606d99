/** The life of a mount: opens the layers, mounts, serves, and unmounts. */
import { boundPrograms, confinementText } from '../driver/confinement.ts';
import { protectionText } from '../driver/protection.ts';
import { mounter } from '../fuse/mount.ts';
import type { Mount } from '../fuse/mountinfo.ts';
import { asOneLine, printable } from '../sys/bytes.ts';
import { collectWithoutHelp, optimizeLater } from '../sys/memory.ts';
import { native } from '../sys/native.ts';
import { liveText } from './activity-text.ts';
import { liveNumbers, serveLive } from './control-socket.ts';
import type { Finding } from './finding.ts';
import { LiveMount } from './live/live-mount.ts';
import type { MountOrder } from './live/order.ts';
import { StopRequests } from './live/stop-requests.ts';
import { openServer, whyUnconfined } from './live/transport.ts';
import { LimitedLog } from './log-limit.ts';
import { FUSE_FD } from './restart/handover.ts';
import { handoverOf, leaveTo } from './restart/leave.ts';
import { stackFinding } from './stack-finding.ts';
import { recordedLayers, StateFile } from './state.ts';
import { connectSupervisor, notifySupervisor } from './supervisor.ts';
import { Watcher } from './watcher.ts';

/** A mount that answers, as its daemon describes it. */
export interface Readiness {
  /** The mount's protection and the confinement of its daemon, for people. */
  readonly safety: string;
  /** What people should know at once; see `stackFinding`. */
  readonly finding: Finding | undefined;
}

/**
 * Mounts and serves until the mount is gone. If a mount that should end is busy, it stays.
 * @param ready called once the root of the tree can be read
 * @param write gets a line for each event that users should know
 * @returns the exit status: 0 after an unmount, otherwise 1
 * Throws ErrnoError if the mount could not be made; then nothing is left behind.
 */
export async function serveMount(
  order: MountOrder,
  ready: (readiness: Readiness) => void,
  write: (line: string) => void,
): Promise<number> {
  const log = (line: string): void => write(asOneLine(line));
  const limited = new LimitedLog(log);
  connectSupervisor();
  if (whyUnconfined(order.plan) === undefined) boundPrograms();
  const { plan, resumed } = order;
  // without a mount it ends with this process
  const watcher = new Watcher(mounter(), order.mountpoint.directory, resumed?.handover.descriptors(FUSE_FD));
  const server = await openServer(plan, limited.say);
  const layers = resumed?.record.layers ?? recordedLayers(plan.stack);
  const handover = handoverOf(order, server.overlay);
  const finding = stackFinding(server.overlay);
  for (const fd of order.inherited) native.close(fd);
  order.leaveDirectory();
  native.prepareStreams(); // /dev may be covered by the mount
  const requests = new StopRequests(log);
  const state = new StateFile();
  serveLive(state.socket, () => mount.safety.counters);
  const mount = await LiveMount.make(order, server, watcher, state, handover);
  const { protection, confinement } = mount.safety;
  process.on('SIGUSR1', () => logNumbers(mount, log));
  const startedAt = resumed?.record.startedAt ?? Date.now();
  const shown = printable(mount.seen?.path ?? order.mountpoint.shown);
  if (mount.seen) {
    const { transport } = plan.driver;
    const place = placeOf(mount.seen);
    state.write({ ...place, startedAt, ...layers, transport, protection, confinement, finding: finding ?? null });
    if (!resumed) await watcher.look();
  }
  requests.attend(mount);
  if (handover) leaveTo(watcher, handover, mount, { order, layers, startedAt, overlay: server.overlay });
  prepareV8();
  ready({ safety: `${protectionText(protection)}; ${confinementText(confinement)}`, finding });
  notifySupervisor('READY=1', `MAINPID=${process.pid}`, `STATUS=${shown} is mounted`);
  const end = await Promise.race([server.ended, requests.abandoned]);
  const isForced = end === 'unmounted' && (await mount.takeAwayIfDead());
  if (end === 'unmounted') await watcher.gone(); // otherwise it removes the rest when this process ends
  state.remove();
  limited.summarize();
  if (end === 'unmounted' && !isForced) return 0;
  log(`${shown}: ${isForced ? 'unmounted by force while in use' : end}`);
  return 1;
}

const placeOf = ({ device, path, source }: Mount) => ({ device, mountpoint: path, source });

function logNumbers({ safety }: LiveMount, log: (line: string) => void): void {
  try {
    for (const line of liveText(liveNumbers(safety.counters))) log(line);
  } catch (error) {
    log((error as Error).message); // for example, no descriptor is left: the mount continues
  }
}

/**
 * Settings of V8 for a process that serves. They come last, because V8 then refuses the code cache of modules of Node.js that are
 * not loaded yet.
 */
function prepareV8(): void {
  collectWithoutHelp();
  if (process.versions.openssl !== undefined) optimizeLater(); // otherwise threads hash in JavaScript
}

/** Ends the process at once, even if one of its threads is blocked. */
export function leave(status: number): never {
  return native.exit(status);
}
