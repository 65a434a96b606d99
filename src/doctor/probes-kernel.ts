/** Probes of the kernel and of Node.js. Each is a row of `kernelProbes`. */
import { ENOSYS } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { CAP_DAC_READ_SEARCH, hasCapability } from '../sys/security/privileges.ts';
import { type Answer, contentsOf, type NamedProbe, no, yes } from './facts.ts';
import { isSince, type KernelVersion, type Machine, versionOf } from './machine.ts';

/** The release that introduced openat2(2), which opens every path of an image. */
const OLDEST_KERNEL: KernelVersion = [5, 6];
const OLDEST_NODE: KernelVersion = [20, 18];

/** Features of overlayfs and EROFS, with the release that introduced them. Source: the pull requests of overlayfs and EROFS. */
const FEATURES: readonly (readonly [name: string, module: 'overlay' | 'erofs', since: KernelVersion, what: string])[] =
  [
    ['overlay-data-only', 'overlay', [6, 5], 'data-only layers, A::C'],
    ['overlay-verity', 'overlay', [6, 6], 'verity=on and require'],
    ['overlay-nesting', 'overlay', [6, 7], 'escaped xattrs, lowerdir+ and datadir+'],
    ['erofs-file', 'erofs', [6, 12], 'EROFS from a file, without a loop device'],
    ['overlay-detached', 'overlay', [6, 15], 'detached mounts as layers'],
    ['overlay-user-data', 'overlay', [6, 16], 'data-only layers with userxattr, without metacopy=on'],
  ];

export const kernelProbes: readonly NamedProbe<Machine>[] = [
  ['overlayfs', machine => filesystem('overlay', 'CONFIG_OVERLAY_FS', machine)],
  ['erofs', machine => filesystem('erofs', 'CONFIG_EROFS_FS', machine)],
  ...FEATURES.map(
    ([name, module, since, what]): NamedProbe<Machine> => [name, machine => feature(module, since, what, machine)],
  ),
  ['composefs-tier', tier],
  ['open-by-handle', openByHandle],
];

/** The probes to run first: they decide whether the command works at all. */
export const baseProbes: readonly NamedProbe<Machine>[] = [
  ['kernel', kernelVersion],
  ['node', nodeVersion],
  ['openssl', openssl],
];

const spelled = ([major, minor]: KernelVersion): string => `${major}.${minor}`;

function kernelVersion({ release, kernel }: Machine): Answer {
  if (isSince(kernel, OLDEST_KERNEL)) return yes(release);
  return no(release, 'older than openat2(2)', `Linux ${spelled(OLDEST_KERNEL)}`);
}

function nodeVersion(): Answer {
  const { node } = process.versions;
  if (isSince(versionOf(node), OLDEST_NODE)) return yes(node);
  return no(node, `older than ${spelled(OLDEST_NODE)}`, `Node ${spelled(OLDEST_NODE)}`);
}

/** Whether the addon hashes blocks itself, without a call into JavaScript for each. */
function openssl(): Answer {
  const { openssl } = process.versions;
  const none = new Uint8Array(0);
  const result = native.hashBlocks(1, none, none, 1, none);
  if (result >= 0) return yes(`${openssl}, used by the addon`);
  const why = result === -ENOSYS ? 'the addon does not find it: checking data takes longer' : 'it has no SHA-256';
  return no(openssl ?? null, why, 'Node from nodejs.org, and its headers when the addon is compiled');
}

function filesystem(name: string, option: string, { release }: Machine): Answer {
  if (new RegExp(`\\t${name}$`, 'm').test(contentsOf('/proc/filesystems') ?? '')) return yes('in the kernel');
  const modules = `/lib/modules/${release}/modules`;
  const known = new RegExp(`/${name}\\.ko`);
  if (['dep', 'builtin'].some(kind => known.test(contentsOf(`${modules}.${kind}`) ?? '')))
    return yes('a module that is not loaded yet');
  return no(null, `neither in the kernel nor in /lib/modules/${release}`, `a kernel with ${option}`);
}

function feature(module: 'overlay' | 'erofs', since: KernelVersion, what: string, machine: Machine): Answer {
  const wanted = `Linux ${spelled(since)}`;
  if (!isSince(machine.kernel, since)) return no(null, `${what}: not before ${wanted}`, wanted);
  const there = filesystem(module, '', machine);
  if (!there.ok) return no(null, `${what}: no ${module} here`, `a kernel with ${module}`);
  return yes(`${what} (since ${spelled(since)})`);
}

/** Build features of composefs-rs that declare what a kernel cannot do. */
const TIERS: readonly (readonly [KernelVersion, string, string])[] = [
  [[6, 12], 'rhel9', 'images need loop devices'],
  [[6, 15], 'pre-6.15', 'detached mounts cannot be layers'],
  [[6, 16], 'pre-6.16', 'data-only layers need root'],
];

function tier({ kernel }: Machine): Answer {
  const [since, name, why] = TIERS.find(([since]) => !isSince(kernel, since)) ?? [];
  if (since === undefined || name === undefined || why === undefined)
    return yes('composefs-rs needs no feature for older kernels');
  return no(name, `${why}; composefs-rs has to be built with this feature`, `Linux ${spelled(since)}`);
}

function openByHandle({ inInitialNamespace }: Machine): Answer {
  const help = 'root, or an index for others: lowerdata index DIR';
  if (!hasCapability(CAP_DAC_READ_SEARCH)) return no(null, 'needs CAP_DAC_READ_SEARCH', help);
  if (!inInitialNamespace) return no(null, 'in a user namespace only on filesystems that were mounted there', help);
  return yes('open_by_handle_at(2)');
}
