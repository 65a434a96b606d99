/**
 * The dispatch thread of a mount: opens the layers, then serves the kernel until the connection ends.
 *
 *     {options, driver}             ->  {ready} or {error}     layers are open, nothing is mounted; which thread this is
 *     {fd, measuring, …}, mounted   ->  {protection, counters}  the kernel has said what it can do
 *                                   ->  {ended}                 the loop has returned
 */
import { writeSync } from 'node:fs';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import type { End } from '../fuse/device.ts';
import { Dispatcher } from '../fuse/dispatch.ts';
import { serve } from '../fuse/session.ts';
import { traceTo } from '../fuse/trace.ts';
import { type FuseRing, openRing } from '../fuse/uring.ts';
import { openOverlay } from '../overlay/open.ts';
import type { StackOptions } from '../overlay/options.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { step } from '../overlay/step.ts';
import { CpuLatency } from '../sys/cpu-latency.ts';
import { EIO, EPERM, ErrnoError } from '../sys/errno.ts';
import {
  CAP_SYS_ADMIN,
  hasCapability,
  inInitialUserNamespace,
  openFilesMax,
  setCapabilities,
} from '../sys/privileges.ts';
import { ownThread, THIS_THREAD, type Thread } from '../sys/threads.ts';
import type { SharedCounters } from './activity.ts';
import { Backing } from './backing.ts';
import { cachePolicy, memoryFor } from './cache.ts';
import { wantsPassthrough } from './confinement.ts';
import { Files, type Opened } from './files.ts';
import { OverlayFilesystem } from './filesystem.ts';
import { Mailbox, type MailboxEnd } from './mailbox.ts';
import { Measurer } from './measurer.ts';
import type { DriverOptions } from './options.ts';
import { type Protection, protectionOf } from './protection.ts';

/** The first message. */
export interface ThreadData {
  options: StackOptions;
  driver: DriverOptions;
}
/** What the thread says. */
export type ThreadMessage =
  | { ready: Thread }
  | { error: { errno: number; message: string } }
  | { protection: Protection; counters: SharedCounters }
  | { ended: End };
/** What it is told: the descriptor of the mounted /dev/fuse, and who measures for it. */
export interface ThreadOrder {
  fd: number;
  measuring: MailboxEnd;
  /** The capabilities that it keeps where the kernel has no passthrough; undefined: those that it has. */
  withoutPassthrough: readonly number[] | undefined;
}

const port = parentPort;
if (!port) throw new Error('thread.ts runs in a worker');
Atomics.wait(workerData as Int32Array, 0, 0); // it is 1 when the first message is there
const { options, driver } = (receiveMessageOnPort(port) as { message: ThreadData }).message;

try {
  const overlay = openOverlay(options, step, memoryFor(driver));
  overlay.attr(overlay.root); // the mount answers when this can be said
  const isPrivileged = hasCapability(CAP_SYS_ADMIN) && inInitialUserNamespace();
  if (driver.passthrough === 'on' && !isPrivileged) throw new ErrnoError(EPERM, 'passthrough=on needs CAP_SYS_ADMIN');
  const latency = driver.latency === 'low' ? new CpuLatency() : undefined;
  const ring = driver.transport === 'uring' ? openRing() : undefined;
  port.once('message', (order: ThreadOrder) => {
    const ended = serveOverlay(order, overlay, isPrivileged, { ring, latency });
    latency?.close();
    say({ ended });
  });
  say({ ready: ownThread() });
} catch (error) {
  const { errno, message } = error instanceof ErrnoError ? error : { errno: EIO, message: String(error) };
  say({ error: { errno, message } });
}

/** A line that can not be written is no reason to end a mount. */
function tell(line: string): void {
  try {
    writeSync(2, `${line}\n`);
  } catch {}
}

function log(line: string): void {
  tell(`lowerdata: ${line}`);
}

function say(message: ThreadMessage): void {
  port?.postMessage(message);
}

/** What serving needs that has to be opened early. */
interface Means {
  readonly ring: FuseRing | undefined;
  readonly latency: CpuLatency | undefined;
}

function serveOverlay(order: ThreadOrder, overlay: Overlay, isPrivileged: boolean, means: Means): End {
  const { fd, measuring, withoutPassthrough } = order;
  const { ring, latency } = means;
  const passthrough = isPrivileged && wantsPassthrough(driver);
  const acl = driver.acl && overlay.hasAcl;
  const measurer = new Measurer<Opened | number>(new Mailbox(measuring));
  const files = new Files(overlay, new Backing(fd, passthrough, log), {
    idleMax: idleFilesMax(),
    verify: driver.verify,
    measurer,
  });
  const cache = cachePolicy(overlay, driver);
  const filesystem = new OverlayFilesystem(overlay, files, cache, { acl, trusted: isPrivileged }, granted => {
    if (!granted && withoutPassthrough) setCapabilities(THIS_THREAD, withoutPassthrough);
    const protection = protectionOf(options, driver, granted || whyNoPassthrough(isPrivileged));
    const requests = dispatcher.counts.counters;
    say({
      protection,
      counters: { requests, files: files.counters, names: filesystem.counters, caches: filesystem.caches },
    });
  });
  const wanted = {
    passthroughDepth: passthrough ? 1 : 0,
    posixAcl: acl,
    changes: !overlay.immutable,
    ioUring: ring !== undefined,
  } as const;
  const tracer = driver.debug ? traceTo(tell) : undefined;
  const dispatcher = new Dispatcher(filesystem, { wanted, log, tracer });
  return serve(fd, dispatcher, { log, wake: measurer.wake, latency }, ring);
}

function whyNoPassthrough(isPrivileged: boolean): string {
  if (driver.passthrough === 'off') return 'passthrough=off';
  if (driver.opens === 'none') return 'opens=none';
  return isPrivileged ? 'this kernel has no passthrough' : 'no passthrough without CAP_SYS_ADMIN';
}

/** A quarter of the descriptors that the process may have, and no more than 16,384. */
function idleFilesMax(): number {
  return Math.max(16, Math.min(16_384, Math.floor(openFilesMax() / 4)));
}
