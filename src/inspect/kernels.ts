/**
 * What kernels before Linux 6.18 do otherwise. Source: the recordings of test/fixtures/kernels, which scripts/kernels/record.sh makes
 * by booting the kernels; docs/semantics.md has the table in words.
 */
import type { Inode } from '../layers/layer.ts';
import type { Option } from '../overlay/options/split.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { type Judge, step } from '../overlay/step.ts';
import type { OverlayXattrs } from '../overlay/xattrs.ts';
import { type ByteString, printable } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';

/** The kernels that were booted, oldest first. */
export const KERNELS = ['6.1', '6.12', '6.18'] as const;
export type Kernel = (typeof KERNELS)[number];
/** The kernel whose rules are those of docs/semantics.md. */
export const REFERENCE: Kernel = '6.18';

interface Change {
  /** The rule of docs/semantics.md. */
  readonly rule: string;
  /** What older kernels do not have. */
  readonly what: string;
  /** The first recorded kernel that has it. */
  readonly since: Kernel;
  /** A case of the corpus in which older kernels differ. */
  readonly shown: string;
}

/** All differences in the recordings that a single lookup or mount shows. */
export const CHANGES = {
  dataOnly: {
    ...{ rule: 'S2', what: 'data-only layers', since: '6.12' },
    shown: 'data-only.json:composefs',
  },
  appended: {
    ...{ rule: 'S3', what: 'lowerdir+ and datadir+', since: '6.12' },
    shown: 'limits-and-errors.json:plus-mount2',
  },
  descriptors: {
    ...{ rule: 'S3', what: 'layers as file descriptors', since: '6.18' },
    shown: 'limits-and-errors.json:plus-fd',
  },
  verity: { ...{ rule: 'V1', what: 'the option verity', since: '6.12' }, shown: 'verity.json:normal-layers-on' },
  dataWithoutMetacopy: {
    ...{ rule: 'S4', what: 'data-only layers or verity= without metacopy=on', since: '6.18' },
    shown: 'limits-and-errors.json:data-without-metacopy',
  },
  overrideCreds: {
    ...{ rule: 'S7', what: 'the option override_creds', since: '6.18' },
    shown: 'limits-and-errors.json:override-creds',
  },
  xattrWhiteouts: {
    ...{ rule: 'W3', what: 'whiteouts by xattr', since: '6.12' },
    shown: 'whiteout.json:xattr-whiteout',
  },
  metacopyValues: {
    ...{ rule: 'M2', what: 'metacopy values of 1 to 3 bytes as errors', since: '6.12' },
    shown: 'metacopy.json:xattr-forms',
  },
  escapes: {
    ...{ rule: 'X1', what: 'escaped names of xattrs', since: '6.12' },
    shown: 'xattr-escape.json:list-and-get',
  },
  barePrefix: {
    ...{ rule: 'X1', what: 'the name trusted.overlay. itself, hidden in a list', since: '6.18' },
    shown: 'xattr-escape.json:names-near-the-prefix',
  },
} as const satisfies Record<string, Change>;

/** Throws ErrnoError EINVAL, which lists the known ones, for a kernel that was not recorded. */
export function kernelOf(text: ByteString): Kernel {
  const kernel = KERNELS.find(one => one === text);
  if (kernel) return kernel;
  throw new ErrnoError(EINVAL, `--kernel=${printable(text)}: not recorded; known are ${KERNELS.join(', ')}`);
}

const lacks = (kernel: Kernel, { since }: Change): boolean => KERNELS.indexOf(kernel) < KERNELS.indexOf(since);

/** Why a kernel refuses a mount, with EINVAL, that Linux 6.18 takes; undefined if it takes it. @param given the options */
export function refusalOf(kernel: Kernel, overlay: Overlay, given: readonly Option[]): string | undefined {
  const has = (...keys: ByteString[]): boolean => given.some(({ key }) => keys.includes(key));
  const verity = given.findLast(({ key }) => key === 'verity')?.value;
  const isChecked = verity !== undefined && verity !== 'off';
  const hasData = overlay.dataLayers.length > 0;
  const used: readonly (readonly [boolean, Change])[] = [
    [hasData, CHANGES.dataOnly],
    [has('lowerdir+', 'datadir+'), CHANGES.appended],
    [verity !== undefined, CHANGES.verity],
    [has('override_creds', 'nooverride_creds'), CHANGES.overrideCreds],
    [(hasData || isChecked) && !overlay.options.metacopy, CHANGES.dataWithoutMetacopy],
  ];
  const change = used.find(([isUsed, one]) => isUsed && lacks(kernel, one))?.[1];
  return change && `${change.rule}: ${change.what}: the mount is refused`;
}

/** The overlay of the same layers and options by the rules of a kernel. */
export function asLinux(overlay: Overlay, kernel: Kernel): Overlay {
  const { xattrs } = overlay.rules;
  const judge = lacks(kernel, CHANGES.xattrWhiteouts) ? beforeWhiteouts(xattrs) : step;
  return overlay.withRules({ semantics: 'kernel', redirects: 'kernel', verity: 'off' }, judge);
}

/** The rule of kernels that know no whiteouts by xattr, and take every metacopy value. */
function beforeWhiteouts({ whiteout, metacopy, opaque }: OverlayXattrs): Judge {
  return (rules, search, found, ...rest) => {
    const { layer } = found;
    const xattrBytes = (_: Inode, name: ByteString): number => {
      const bytes = name === whiteout ? -1 : layer.xattrBytes(found, name);
      return name === metacopy ? Math.min(bytes, 0) : bytes;
    };
    const getxattr = (_: Inode, name: ByteString): Uint8Array | undefined => {
      const value = layer.getxattr(found, name);
      return name === opaque && value?.[0] === X ? undefined : value;
    };
    const older = Object.create(layer, { xattrBytes: { value: xattrBytes }, getxattr: { value: getxattr } });
    return step(rules, search, Object.create(found, { layer: { value: older } }), ...rest);
  };
}
const X = 0x78;
