/** A daemon that the watcher of a mount starts when the one before has died. */
import { HandedConnection } from '../../fuse/handed-connection.ts';
import { printable } from '../../sys/bytes.ts';
import { leave } from '../daemon.ts';
import { inheritedDescriptors } from '../inherited.ts';
import { detach, serveInBackground } from '../launch.ts';
import type { MountOrder } from '../live/order.ts';
import { connectSupervisor, logToSystem } from '../supervisor.ts';
import { FUSE_FD, Handover, pathsOfHeld } from './handover.ts';

/**
 * Goes on with a mount until it is gone, and ends this process. If it cannot, the watcher removes the mount.
 * @param deaths how many daemons have died in quick succession
 */
export async function resume(deaths: number): Promise<never> {
  inheritedDescriptors(undefined); // none is for programs that are started here
  connectSupervisor();
  let shown = 'a mount';
  try {
    const { handover, record } = Handover.take();
    const { plan, layers, mount, pid } = record;
    if (mount) shown = printable(mount.path);
    detach();
    const stack = { ...plan.stack, layers: pathsOfHeld(plan.stack.layers, layers.layers) };
    const order: MountOrder = {
      plan: { ...plan, stack },
      mountpoint: HandedConnection.resumed(FUSE_FD, mount),
      inherited: [],
      leaveDirectory: () => process.chdir('/'),
      resumed: { handover, record, deaths },
    };
    const ready = (): void =>
      logToSystem(`${shown}: process ${pid} has died; process ${process.pid} goes on with the mount`);
    return leave(await serveInBackground(order, ready));
  } catch (error) {
    logToSystem(`${shown}: cannot go on with the mount: ${(error as Error).message}`);
    return leave(1);
  }
}
