/** What the kernel may keep of our answers, and for how long. */
import type { Overlay } from '../overlay/overlay.ts';
import type { DriverOptions } from './options.ts';

/** Seconds, Infinity included. */
export interface CachePolicy {
  /** How long a name leads to the same node. */
  entrySeconds: number;
  /** How long attributes stay. */
  attrSeconds: number;
  /** How long a missing name stays missing; 0: it is asked for again each time. */
  negativeSeconds: number;
  /** Whether it asks before it opens a file; else it opens all files itself, and keeps their pages until it needs the room. */
  asksToOpen: boolean;
}

/**
 * Images never change, so the kernel may keep everything. A directory's names are kept as kernel overlayfs keeps its
 * dentries; its attributes for a second, because there a changed mode or time shows at once.
 */
export function cachePolicy(overlay: Overlay, options: DriverOptions): CachePolicy {
  return {
    entrySeconds: options.entryTimeout ?? Number.POSITIVE_INFINITY,
    attrSeconds: options.attrTimeout ?? (overlay.immutable ? Number.POSITIVE_INFINITY : 1),
    negativeSeconds: options.negativeTimeout ?? Number.POSITIVE_INFINITY,
    asksToOpen: options.opens !== 'none',
  };
}
