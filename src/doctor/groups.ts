/** What each fact is for, so that a reader sees which missing ones matter. */
import { type Fact, factOf } from './facts.ts';

export interface Group {
  readonly title: string;
  /** The names of its facts, in order. */
  readonly names: readonly string[];
}

/** Every fact of a machine is in one group. */
export const GROUPS: readonly Group[] = [
  {
    title: 'Needed to mount (of mount and fusermount3 one is enough)',
    names: ['kernel', 'node', 'fuse-device', 'fuse-protocol', 'mount', 'fusermount3'],
  },
  {
    title: 'Makes mounts faster',
    names: ['passthrough', 'fuse-io-uring', 'low-latency', 'fuse-flags', 'openssl'],
  },
  {
    title: 'Lets mounts do more',
    names: ['allow-other', 'user-namespaces', 'open-by-handle'],
  },
  {
    title: 'For overlayfs and composefs of the kernel; lowerdata needs none of it',
    names: [
      ...['overlayfs', 'erofs', 'overlay-data-only', 'overlay-verity', 'overlay-nesting', 'erofs-file'],
      ...['overlay-detached', 'overlay-user-data', 'composefs-tier'],
    ],
  },
];

/** `missing`: nothing can be mounted without it. `no`: mounts do without it. */
export type Standing = 'yes' | 'missing' | 'no';

const NEEDED: readonly string[] = ['kernel', 'node', 'fuse-device', 'fuse-protocol'];
const MEANS: readonly string[] = ['mount', 'fusermount3'];

/** What a fact means for mounts, given all facts of the machine. */
export function standingOf({ name, ok }: Fact, facts: readonly Fact[]): Standing {
  if (ok) return 'yes';
  if (NEEDED.includes(name)) return 'missing';
  return MEANS.includes(name) && !MEANS.some(means => factOf(facts, means).ok) ? 'missing' : 'no';
}
