/** The Filesystem that a session serves, and one row per opcode. */
import type { Name } from '../sys/bytes.ts';

/** The kernel's handle on a node of this mount: root 1, minted by the driver, below 2^53. */
export type Nodeid = number & { readonly nodeid: unique symbol };
export const ROOT = 1 as Nodeid;

/** Who asks, for the few operations whose answer depends on it. */
export interface Caller {
  uid: number;
  gid: number;
  pid: number;
}
