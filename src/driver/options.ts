/** A flag of a mount that takes away what its layers could do. */
export type RestrictionFlag = 'nosuid' | 'nodev' | 'noexec';

/** How a tree is served over FUSE: what a mount can choose that does not change what the tree holds. */
export interface DriverOptions {
  /** Whether the kernel reads data from the file itself: auto where it is allowed; on fails where it is not. */
  readonly passthrough: 'auto' | 'on' | 'off';
  /** none: the kernel opens files without asking, and their data is found and checked when it is first read. */
  readonly opens: 'each' | 'none';
  /** When data that has a digest is checked: at each open, or also at each read; undefined: as the kernel reads it or not. */
  readonly verify?: 'open' | 'read';
  /** Seconds that the kernel may keep names, attributes and misses; undefined: as long as the tree can not change. */
  readonly entryTimeout?: number;
  readonly attrTimeout?: number;
  readonly negativeTimeout?: number;
  /** Dentries that this process remembers at most; undefined: as many as DEFAULT_MEMORY says. */
  readonly dentries?: number;
  /** Whether POSIX ACLs count. */
  readonly acl: boolean;
  /** One line for each message. */
  readonly debug: boolean;
  /** low: processors do not sleep while requests follow each other closely. */
  readonly latency: 'normal' | 'low';
  /** Whether the process gives up what it does not need to serve. */
  readonly confine: 'auto' | 'off';
  /** Whose numbers statfs(2) shows: those of the top layer, as the kernel does, or of the first data-only one. */
  readonly statfs?: 'top' | 'data';
  /** Whether file handles outlive what the kernel remembers, as an NFS server needs it. */
  readonly nfsExport?: 'on' | 'off';
  /** Restrictions of the layers that do not hold for the mount. */
  readonly lifted?: readonly RestrictionFlag[];
  readonly transport: 'dev' | 'uring' | 'fuse-native';
}
