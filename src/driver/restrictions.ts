/** What a mount keeps from coming to life: devices, set-user-ID programs and programs of layers that nobody vouches for. */
import type { Layer } from '../layers/layer.ts';
import type { StackOptions } from '../overlay/options.ts';
import type { DriverOptions, RestrictionFlag } from './options.ts';

/** A flag of the mount that nobody asked for. */
export interface Restriction {
  readonly flag: RestrictionFlag;
  /** Which layer it comes from, and why. */
  readonly why: string;
}

/** The option of mount(8) that lifts each. */
export const LIFTS: Readonly<Record<RestrictionFlag, string>> = { nosuid: 'suid', nodev: 'dev', noexec: 'exec' };

export const RESTRICTION_FLAGS = Object.keys(LIFTS) as readonly RestrictionFlag[];

/** Bits of `Statfs.flags`. Source: linux/statfs.h. */
const MOUNT_FLAGS: readonly (readonly [flag: RestrictionFlag, bit: number])[] = [
  ['nosuid', 2],
  ['nodev', 4],
  ['noexec', 8],
];

/**
 * The restrictions of a stack, each once, with the first reason for it. Whoever makes an image chooses its device numbers,
 * so that an image without a digest means `nodev`. In a directory only root can make a device, but the filesystem that it is
 * on may be mounted so that none works, and the same holds of set-user-ID programs. Kernel overlayfs looks at its own mount
 * alone. Data-only layers have neither names nor modes. What `lifted` has does not hold.
 * @param layers the normal ones, top first
 */
export function restrictionsOf(
  { imageDigest }: Pick<StackOptions, 'imageDigest'>,
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
      continue;
    }
    const { flags = 0 } = layer.statfs();
    for (const [flag, bit] of MOUNT_FLAGS) if (flags & bit) add(flag, `so is the mount of layer ${layer.path}`);
  }
  return found;
}
