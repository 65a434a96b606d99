/** Probes of mounting: /dev/fuse, its protocol, and permissions. Each is a row of `mountProbes`. */

import { spawnSync } from 'node:child_process';
import { accessSync, closeSync, constants, openSync, realpathSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { acceptedFlags, type InitFlagName } from '../fuse/init.ts';
import { uringObstacle } from '../fuse/uring.ts';
import { byteStringFromText } from '../sys/bytes.ts';
import { CPU_LATENCY_DEVICE } from '../sys/cpu-latency.ts';
import { EINVAL, EIO, EPERM, errnoText } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { type Answer, contentsOf, type NamedProbe, no, yes } from './facts.ts';
import { isSince, type KernelVersion, type Machine } from './machine.ts';

export const mountProbes: readonly NamedProbe<Machine>[] = [
  ['fuse-device', device],
  ['fuse-protocol', protocol],
  ['fuse-flags', flags],
  ['mount', mountCall],
  ['fusermount3', helper],
  ['allow-other', allowOther],
  ['passthrough', passthrough],
  ['fuse-io-uring', ioUring],
  ['low-latency', lowLatency],
  ['user-namespaces', userNamespaces],
];

const O_RDWR = constants.O_RDWR;

function device(): Answer {
  try {
    closeSync(openSync('/dev/fuse', O_RDWR));
    return yes('/dev/fuse, readable and writable');
  } catch (error) {
    const { code = 'EIO', errno = -EIO } = error as NodeJS.ErrnoException;
    return no(
      null,
      `/dev/fuse: ${errnoText(errno)}`,
      DEVICE_HELP[code] ?? 'modprobe fuse; containers: --device=/dev/fuse',
    );
  }
}
const DEVICE_HELP: Readonly<Record<string, string>> = {
  EACCES: 'chmod 666 /dev/fuse, as udev does, or membership in its group',
  EPERM: 'a device cgroup that allows 10:229; containers: --device=/dev/fuse',
};

/** Minor versions of the FUSE protocol by kernel release. Source: include/uapi/linux/fuse.h of each kernel. */
const MINORS: readonly (readonly [KernelVersion, number])[] = [
  [[6, 18], 45],
  [[6, 16], 44],
  [[6, 15], 43],
  [[6, 14], 42],
  [[6, 12], 41],
  [[6, 9], 40],
  [[6, 6], 39],
  [[6, 2], 38],
  [[5, 10], 32],
  [[5, 4], 31],
];
const PASSTHROUGH_MINOR = 40;

/** The minor version, and whether the kernel stated it itself; otherwise it is deduced from the release, and 0 if too old. */
function minorOf({ offer, kernel }: Machine): readonly [minor: number, isAsked: boolean] {
  if (offer) return [offer.minor, true];
  return [MINORS.find(([since]) => isSince(kernel, since))?.[1] ?? 0, false];
}

function protocol(machine: Machine): Answer {
  const [minor, isAsked] = minorOf(machine);
  if (minor === 0) return no(null, `Linux ${machine.release} is too old`, 'Linux 5.6 or newer');
  return yes(
    isAsked ? `7.${minor}, as reported to a mount` : `7.${minor} or later, according to the version of the kernel`,
  );
}

function flags({ offer }: Machine): Answer {
  if (!offer) return no(null, 'no mount could be made to find out', 'a user who may mount, or user namespaces');
  const missing = acceptedFlags.filter(flag => !offer.flags.has(flag));
  const value = `${acceptedFlags.length - missing.length} of the ${acceptedFlags.length} that lowerdata asks for`;
  return missing.length === 0
    ? yes(value)
    : no(value, `missing: ${missing.join(' ')}`, flagsHelp(missing, contentsOf(URING_PARAMETER)));
}

const MS_MOVE = 8192;

/** Asks to move a mount with an empty name, which never succeeds: EINVAL if the caller may mount, EPERM otherwise. */
function mountCall({ inInitialNamespace }: Machine): Answer {
  const result = native.mount('', '/', '', MS_MOVE, '');
  if (result === -EINVAL) return yes(inInitialNamespace ? 'mount(2)' : 'mount(2), within this user namespace');
  return no(
    null,
    result === -EPERM ? 'needs CAP_SYS_ADMIN over this mount namespace' : errnoText(result),
    'root, unshare -Urm, or fusermount3 instead',
  );
}

function helper(machine: Machine): Answer {
  const path = onPath('fusermount3');
  if (path === undefined) return no(null, 'fusermount3 is not on the PATH', 'install it (Debian: fuse3)');
  const { mode, uid } = statSync(path);
  const isSetuid = uid === 0 && (mode & 0o4000) !== 0;
  const hasCapabilities = native.lgetxattr(byteStringFromText(path), 'security.capability', new Uint8Array(0)) > 0;
  if (!isSetuid && !hasCapabilities && !machine.inInitialNamespace)
    return no(path, 'its owner is not the root of this user namespace', 'a namespace with more users: --map-auto');
  if (!isSetuid && !hasCapabilities)
    return no(path, 'it is not set-user-ID root', `chown root ${path} && chmod u+s ${path}`);
  if (machine.isAdmin && !mountCall(machine).ok)
    return no(path, 'nobody in this user namespace may mount in this mount namespace', 'unshare -Urm in place of -Ur');
  if (/^NoNewPrivs:\s*1$/m.test(contentsOf('/proc/self/status') ?? ''))
    return no(path, 'this process may not gain privileges (no_new_privs)', 'containers: without no-new-privileges');
  return yes(`${path}, ${isSetuid ? 'set-user-ID root' : 'with file capabilities'}`);
}

/** The real path of a program on the PATH; undefined if there is none. */
function onPath(program: string): string | undefined {
  const { PATH = '' } = process.env;
  for (const directory of PATH.split(':')) {
    try {
      const path = realpathSync(join(directory, program));
      accessSync(path, constants.X_OK);
      return path;
    } catch {}
  }
  return undefined;
}

function allowOther(machine: Machine): Answer {
  if (mountCall(machine).ok) return yes('with mount(2)');
  const file = contentsOf('/etc/fuse.conf') ?? '';
  if (/^user_allow_other$/m.test(file)) return yes('user_allow_other in /etc/fuse.conf');
  return no(null, 'user_allow_other is not in /etc/fuse.conf', 'a line user_allow_other in /etc/fuse.conf');
}

function passthrough(machine: Machine): Answer {
  const [minor] = minorOf(machine);
  const { offer, isAdmin, inInitialNamespace } = machine;
  if (minor < PASSTHROUGH_MINOR) return no(null, 'FUSE older than 7.40', 'Linux 6.9');
  if (offer && !offer.flags.has('PASSTHROUGH'))
    return no(null, 'this kernel has none', 'a kernel with CONFIG_FUSE_PASSTHROUGH');
  if (!isAdmin) return no(null, 'needs CAP_SYS_ADMIN', 'mount as root');
  if (!inInitialNamespace)
    return no(null, 'needs CAP_SYS_ADMIN outside of user namespaces', 'mount as root, not in a user namespace');
  return yes('the kernel reads objects itself');
}

function ioUring(): Answer {
  const obstacle = uringObstacle();
  if (obstacle === undefined) return yes('enabled: transport=uring');
  return no(null, obstacle, uringHelp(contentsOf(URING_PARAMETER)));
}

const URING_PARAMETER = '/sys/module/fuse/parameters/enable_uring';

/** What makes the kernel offer FUSE over io_uring. @param parameter the value of enable_uring; undefined if there is none */
export function uringHelp(parameter: string | undefined): string {
  const boot = 'boot with fuse.enable_uring=1';
  if (parameter === undefined) return `Linux 6.14 with CONFIG_FUSE_IO_URING; ${boot}`;
  return `${boot}, or as root: echo Y >${URING_PARAMETER}`;
}

/** What makes the kernel offer flags of INIT. @param uring the value of the parameter enable_uring; undefined if there is none */
export function flagsHelp(missing: readonly InitFlagName[], uring: string | undefined): string {
  const isForUring = missing.includes('OVER_IO_URING') && uring !== undefined;
  const others = missing.filter(flag => !(isForUring && flag === 'OVER_IO_URING'));
  const kernel = others.length > 0 ? [`a newer kernel for ${others.join(' ')}`] : [];
  return [...(isForUring ? [`for OVER_IO_URING: ${uringHelp(uring)}`] : []), ...kernel].join('; ');
}

function lowLatency(): Answer {
  try {
    accessSync(CPU_LATENCY_DEVICE, constants.W_OK);
    return yes('allowed: latency=low');
  } catch (error) {
    const { code, errno = -EIO } = error as NodeJS.ErrnoException;
    const instead = code === 'ENOENT' ? 'a kernel with CONFIG_CPU_IDLE' : 'mount as root, or its owner or group';
    return no(null, `${CPU_LATENCY_DEVICE}: ${errnoText(errno)}`, instead);
  }
}

/**
 * The sysctls that forbid user namespaces: name, forbidding value, allowing value. Source: sysctl/user.rst, Debian's and Ubuntu's
 * patches.
 */
const SYSCTLS = [
  ['user/max_user_namespaces', '0', '1000'],
  ['kernel/unprivileged_userns_clone', '0', '1'],
  ['kernel/apparmor_restrict_unprivileged_userns', '1', '0'],
] as const;

/** Creates a user namespace, with this user as its root, to see whether that is allowed. */
function userNamespaces(): Answer {
  const { status, stderr, error } = spawnSync('unshare', ['-Ur', 'true'], { encoding: 'utf8' });
  if (status === 0) return yes('allowed');
  const cause = SYSCTLS.find(([name, forbids]) => contentsOf(`/proc/sys/${name}`) === forbids);
  const [name, value, instead] = cause ?? [];
  if (name !== undefined) {
    const key = name.replace('/', '.');
    return no(null, `${key} is ${value}`, `sysctl -w ${key}=${instead}`);
  }
  const why = error ? 'unshare(1) could not be run' : (stderr.trim().split('\n').at(-1) ?? '');
  return no(null, why, error ? 'install it (Debian: util-linux)' : 'a container that allows unshare(2)');
}
