/** What one daemon is to mount. */
import type { HandedConnection } from '../../fuse/handed-connection.ts';
import type { MountPoint } from '../../fuse/mount-point.ts';
import type { MountPlan } from '../plan.ts';
import type { Handover, MountRecord } from '../restart/handover.ts';

/** What an earlier daemon has left. */
export interface Resumed {
  readonly handover: Handover;
  readonly record: MountRecord;
  /** How many daemons have died in quick succession. */
  readonly deaths: number;
}

/** A mount for one daemon to make. */
export interface MountOrder {
  readonly plan: MountPlan;
  /** Where to mount, or what another program has mounted. */
  readonly mountpoint: MountPoint | HandedConnection;
  /** The caller's descriptors. Paths of layers may refer to them, so they are closed after the layers have been opened. */
  readonly inherited: readonly number[];
  /** Called once the layers are open: from then on, no path is relative to the working directory. */
  readonly leaveDirectory: () => void;
  /** Absent for the first daemon of the mount. */
  readonly resumed?: Resumed;
}
