/** What the kernel may keep of our answers, and for how long. */
import { DEFAULT_MEMORY, type Memory } from '../overlay/cache.ts';
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
 * dentries. Its attributes, which overlayfs shows as they are, grow old here for half a minute, and in the kernel for
 * another half.
 */
export function cachePolicy(overlay: Overlay, options: DriverOptions): CachePolicy {
  return {
    entrySeconds: options.entryTimeout ?? Number.POSITIVE_INFINITY,
    attrSeconds: options.attrTimeout ?? (overlay.immutable ? Number.POSITIVE_INFINITY : DEFAULT_MEMORY.attrSeconds),
    negativeSeconds: options.negativeTimeout ?? Number.POSITIVE_INFINITY,
    asksToOpen: options.opens !== 'none',
  };
}

/** What this process keeps, so that the layers are asked no more than the kernel would ask. */
export function memoryFor(options: DriverOptions): Memory {
  const { dentries, attrTimeout, entryTimeout, negativeTimeout } = options;
  return {
    dentries: dentries ?? DEFAULT_MEMORY.dentries,
    attrSeconds: attrTimeout ?? DEFAULT_MEMORY.attrSeconds,
    entrySeconds: entryTimeout ?? DEFAULT_MEMORY.entrySeconds,
    negativeSeconds: negativeTimeout ?? DEFAULT_MEMORY.negativeSeconds,
  };
}
