/** Which answers the kernel may cache, and for how long. */
import { DEFAULT_MEMORY, type Memory } from '../overlay/cache.ts';
import type { StackOptions } from '../overlay/options/rules.ts';
import type { Overlay } from '../overlay/overlay.ts';
import type { DriverOptions } from './options.ts';

/** Times in seconds; Infinity is allowed. */
export interface CachePolicy {
  /** How long a name is cached. */
  entrySeconds: number;
  /** How long attributes are cached. */
  attrSeconds: number;
  /** How long a missing name is cached; 0 means that it is looked up each time. */
  negativeSeconds: number;
  /**
   * Whether the kernel asks before it opens a file. If not, it opens all files itself and keeps their pages until it needs the
   * memory.
   */
  asksToOpen: boolean;
}

/**
 * Images never change, so the kernel may cache everything. A directory's names are cached as kernel overlayfs caches its
 * dentries. Kernel overlayfs shows a directory's current attributes. Here they may be half a minute old in this process, and
 * another half minute in the kernel.
 */
export function cachePolicy(overlay: Overlay, options: DriverOptions): CachePolicy {
  return {
    entrySeconds: options.entryTimeout ?? Number.POSITIVE_INFINITY,
    attrSeconds:
      options.attrTimeout ?? (changesOnlyHere(overlay) ? Number.POSITIVE_INFINITY : DEFAULT_MEMORY.attrSeconds),
    negativeSeconds: options.negativeTimeout ?? Number.POSITIVE_INFINITY,
    asksToOpen: options.opens !== 'none',
  };
}

/** Whether nothing changes but by the kernel's requests: below the upper layer there are only images. */
const changesOnlyHere = ({ layers }: Overlay): boolean =>
  layers.every(({ kind, isUpper }) => kind === 'image' || isUpper);

/** The caches of this process. They spare the layers all requests that the kernel's caches would spare them. */
export function memoryFor(options: DriverOptions, { upper }: Pick<StackOptions, 'upper'> = {}): Memory {
  const { dentries, attrTimeout, entryTimeout, negativeTimeout } = options;
  return {
    dentries: upper ? 0 : (dentries ?? DEFAULT_MEMORY.dentries), // changes would have to be followed
    attrSeconds: attrTimeout ?? DEFAULT_MEMORY.attrSeconds,
    entrySeconds: entryTimeout ?? DEFAULT_MEMORY.entrySeconds,
    negativeSeconds: negativeTimeout ?? DEFAULT_MEMORY.negativeSeconds,
  };
}
