/** Prepares for the death of a daemon whose mount has `restart=on`. */
import { join } from 'node:path';
import { digestOfTop } from '../../driver/lasting/hold.ts';
import type { Overlay } from '../../overlay/overlay.ts';
import { EINVAL, ErrnoError, ESTALE } from '../../sys/errno.ts';
import { packageDirectory } from '../../sys/native.ts';
import type { LiveMount } from '../live/live-mount.ts';
import type { MountOrder } from '../live/order.ts';
import type { Watcher } from '../watcher.ts';
import { Handover, type MountRecord } from './handover.ts';

/** The program that the watcher starts with `--resume`. */
const program = join(packageDirectory, 'dist', 'bin', 'lowerdata.cjs');

/**
 * What outlives the daemon of a mount; undefined without `restart=on`.
 * Throws ErrnoError: EINVAL for a stack that no other daemon could go on with, ESTALE if its image is not that of the daemon before.
 */
export function handoverOf({ plan, resumed }: MountOrder, overlay: Overlay): Handover | undefined {
  if (plan.driver.restart !== 'on') return undefined;
  if (!overlay.recalls)
    throw new ErrnoError(
      EINVAL,
      'option restart=on: only for one image above data-only layers; files of other stacks cannot be found again by their numbers',
    );
  if (resumed === undefined) return Handover.prepare(plan.stack.layers);
  if (digestOfTop(overlay) === resumed.record.digest) return resumed.handover;
  throw new ErrnoError(ESTALE, `layer ${overlay.layers[0]?.path}: the image was changed after it had been mounted`);
}

/** Leaves all that the next daemon needs, and has the watcher start one when this process dies. */
export function leaveTo(
  watcher: Watcher,
  handover: Handover,
  { seen: mount, left }: Pick<LiveMount, 'seen' | 'left'>,
  {
    order,
    layers,
    startedAt,
    overlay,
  }: Pick<MountRecord, 'layers' | 'startedAt'> & { order: MountOrder; overlay: Overlay },
): void {
  const { plan, resumed } = order;
  if (left === undefined) return;
  const { connection, holdsMerged } = left;
  handover.leave({
    plan: resumed?.record.plan ?? plan,
    ...{ layers, digest: resumed?.record.digest ?? digestOfTop(overlay), holdsMerged, mount, startedAt },
    connection: { minor: connection.minor, flags: [...connection.flags] },
  });
  watcher.restart(resumed?.deaths ?? 0, process.execPath, program);
}
