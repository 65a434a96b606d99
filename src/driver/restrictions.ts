/** Restrictions of a mount: devices, set-user-ID programs and programs that its layers may not be trusted with. */
import type { Layer } from '../layers/layer.ts';
import type { StackOptions } from '../overlay/options/rules.ts';
import { printable } from '../sys/bytes.ts';
import type { DriverOptions, RestrictionFlag } from './options.ts';

/** A mount flag that a layer imposes without an option that asks for it. */
export interface Restriction {
  readonly flag: RestrictionFlag;
  /** The layer that imposes the flag, and the reason; a phrase for messages. */
  readonly why: string;
}

/** The option of mount(8) that lifts each flag. */
export const LIFTS: Readonly<Record<RestrictionFlag, string>> = { nosuid: 'suid', nodev: 'dev', noexec: 'exec' };

export const RESTRICTION_FLAGS = Object.keys(LIFTS) as readonly RestrictionFlag[];

/** Bits of `Statfs.flags`. Source: linux/statfs.h. */
const MOUNT_FLAGS: readonly (readonly [flag: RestrictionFlag, bit: number])[] = [
  ['nosuid', 2],
  ['nodev', 4],
  ['noexec', 8],
];

/**
 * The restrictions of a stack, each once, with the first reason for it.
 * The author of an image chooses its device numbers, so an image without a digest means `nodev`, and so does a digest that only the
 * repository has for a name. Only root can make a device in a
 * directory, but its filesystem may be mounted `nodev`, so that no device works there. The same holds for `nosuid` and `noexec`.
 * Kernel overlayfs considers only its own mount's flags. Data-only layers have neither names nor modes. Flags in `lifted` are
 * left out.
 * @param layers the normal layers, top first
 */
export function restrictionsOf(
  { imageDigest, stored }: Pick<StackOptions, 'imageDigest' | 'stored'>,
  { lifted = [] }: Pick<DriverOptions, 'lifted'>,
  layers: readonly Layer[],
): Restriction[] {
  const found: Restriction[] = [];
  const add = (flag: RestrictionFlag, why: string): void => {
    const isNew = !lifted.includes(flag) && !found.some(restriction => restriction.flag === flag);
    if (isNew) found.push({ flag, why });
  };
  for (const [position, layer] of layers.entries()) {
    if (layer.kind === 'image') {
      if (position > 0 || imageDigest === undefined) add('nodev', `no digest vouches for the image ${layer.path}`);
      else if (stored?.givesDigest) add('nodev', `only its name ${printable(stored.name)} vouches for the image`);
      continue;
    }
    const { flags = 0 } = layer.statfs();
    for (const [flag, bit] of MOUNT_FLAGS) if (flags & bit) add(flag, `so is the mount of layer ${layer.path}`);
  }
  return found;
}
