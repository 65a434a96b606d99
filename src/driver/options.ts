import type { ByteString } from '../sys/bytes.ts';
import type { OwnerOptions } from './owners.ts';

/** A mount flag that disables devices, set-user-ID programs, or all programs of the layers. */
export type RestrictionFlag = 'nosuid' | 'nodev' | 'noexec';

/** How a tree is served over FUSE: the options of a mount that do not change the contents of the tree. */
export interface DriverOptions {
  /** Whether the kernel reads backing files itself. auto: if it is allowed to; on: fail if it is not. */
  readonly passthrough: 'auto' | 'on' | 'off';
  /** none: the kernel opens files without asking, and their data is found and checked at the first read. */
  readonly opens: 'each' | 'none';
  /**
   * When data with a digest is checked: at each open, or also at each read. undefined: at each read unless the kernel reads the
   * file itself.
   */
  readonly verify?: 'open' | 'read';
  /** Seconds that the kernel may cache names, attributes and misses. undefined: the defaults of cachePolicy. */
  readonly entryTimeout?: number;
  readonly attrTimeout?: number;
  readonly negativeTimeout?: number;
  /** Dentries that this process caches at most; undefined: the number in DEFAULT_MEMORY. */
  readonly dentries?: number;
  /** Whether POSIX ACLs are enforced. */
  readonly acl: boolean;
  /** Owners that are shown in place of those that the layers store; absent if none are. */
  readonly owners?: OwnerOptions;
  /** The path of a user namespace by whose mapping the mount shows owners. */
  readonly idmap?: ByteString;
  /** Whether each FUSE message is traced in one line. */
  readonly debug: boolean;
  /** low: CPUs do not sleep while requests follow each other closely. */
  readonly latency: 'normal' | 'low';
  /** Whether the process gives up the privileges that it does not need for serving. */
  readonly confine: 'auto' | 'off';
  /** The layer whose numbers statfs(2) shows: the top one, as in kernel overlayfs, or the first data-only one. */
  readonly statfs?: 'top' | 'data';
  /** Whether file handles stay valid after the kernel has forgotten their inodes, as an NFS server needs. */
  readonly nfsExport?: 'on' | 'off';
  /** Whether reads leave access times as they are: a flag of the mount, which the kernel does not apply to files that it reads itself. */
  readonly noatime?: boolean;
  /** Restrictions of the layers that the mount does not apply. */
  readonly lifted?: readonly RestrictionFlag[];
  /** Whether another process goes on with the mount when this one has died. */
  readonly restart?: 'on' | 'off';
  readonly transport: 'dev' | 'uring' | 'fuse-native';
}

/** The options of a mount that has none. */
export const DRIVER_DEFAULTS: DriverOptions = {
  passthrough: 'auto',
  opens: 'each',
  acl: true,
  debug: false,
  confine: 'auto',
  latency: 'normal',
  transport: 'dev',
};
