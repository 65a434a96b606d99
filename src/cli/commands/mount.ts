/** `lowerdata mount`, also called by mount(8) and mount.fuse3. */
import { existsSync, statSync } from 'node:fs';
import type { Command } from 'commander';
import { HandedConnection } from '../../fuse/handed-connection.ts';
import { MountPoint } from '../../fuse/mount-point.ts';
import { readCall } from '../../mount/argv.ts';
import type { Readiness } from '../../mount/daemon.ts';
import { inheritedDescriptors } from '../../mount/inherited.ts';
import type { MountOrder } from '../../mount/live/order.ts';
import { isOfEveryMount } from '../../mount/options.ts';
import {
  isImage,
  type MountPlan,
  optionWords,
  planMount,
  sealed,
  splitMountOptions,
  storedImage,
  valuesOf,
  withoutFuse3Words,
} from '../../mount/plan.ts';
import { isRemount, remount } from '../../mount/remount.ts';
import { MOUNT_PROGRAM_DEFAULTS } from '../../overlay/options/rules.ts';
import type { Option } from '../../overlay/options/split.ts';
import { SERVICE_SOCKET } from '../../service/socket.ts';
import { type ByteString, bufferOf, printable } from '../../sys/bytes.ts';
import { EBUSY, EINVAL, ENOTCONN, ErrnoError, errnoText } from '../../sys/errno.ts';
import {
  complain,
  complainIfHeard,
  MOUNT_FAILED,
  reporting,
  SYSTEM_ERROR,
  type Wording,
  WRONG_CALL,
} from '../../terminal/report.ts';
import { collect, newCommand, oneOf, parse } from '../command.ts';

interface MountCommandFlags {
  readonly options: ByteString[];
  readonly foreground?: true;
  readonly fake?: true;
  readonly verbose?: true;
  readonly sloppy?: true;
  readonly readOnly?: true;
  readonly debug?: true;
  readonly transport?: ByteString;
  readonly semantics?: ByteString;
  readonly verity?: ByteString;
}

/**
 * The caller of the command. For mount(8), -f means: check everything, but do not mount. mount.fuse3 adds words of its own to the
 * options.
 */
export type Invoker = 'lowerdata' | 'mount(8)' | 'mount.fuse3' | 'containers/storage';

/** @param wording makes the message of a failed mount, for a program whose messages differ */
export async function run(
  args: readonly ByteString[],
  invoker: Invoker = 'lowerdata',
  wording?: Wording,
): Promise<number> {
  const inherited = inheritedDescriptors(readCall().channel);
  const command = define(invoker === 'mount(8)');
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const [source, target] = command.args as [ByteString, ByteString];
  const flags = command.opts<MountCommandFlags>();
  if (isRemount(flags.options)) return changeMount(target, flags);
  const byService = serviceOrder(source, target, flags.options);
  if (byService) return mountWithService(byService);
  const plan = await planOf(source, flags, invoker);
  if (typeof plan === 'number') return plan;
  const { driver } = plan;
  const staysHere = flags.foreground || flags.fake || driver.debug;
  if (staysHere && driver.restart === 'on' && !flags.fake) return refuseRestart();
  const handed = HandedConnection.descriptorIn(target);
  if (!staysHere) (await import('../../mount/launch.ts')).startInBackground(handed);
  if (flags.verbose || driver.debug) printIgnoredOptions(plan);
  const ready = ({ safety, finding }: Readiness): void => {
    if (finding) complainIfHeard(`${finding.message}; ${finding.help}`);
    if (flags.verbose) complainIfHeard(`${printable(target)}: ${safety}`);
  };
  const given = { plan, inherited: inherited.filter(fd => fd !== handed) };
  return reporting(MOUNT_FAILED, () => mount(given, target, flags, ready, wording), wording);
}

/** A mount for the service to make. */
interface ServiceOrder {
  readonly image: ByteString;
  readonly target: ByteString;
  readonly options: readonly Option[];
}

/** The order, if `service` is among the options. */
function serviceOrder(image: ByteString, target: ByteString, texts: readonly ByteString[]): ServiceOrder | undefined {
  const options = texts.flatMap(splitMountOptions);
  return options.some(({ key }) => key === 'service') ? { image, target, options } : undefined;
}

function mountWithService({ image, target, options }: ServiceOrder): Promise<number> {
  return reporting(WRONG_CALL, () => {
    for (const { key } of options)
      if (!SERVICE_OPTIONS.includes(key) && !isOfEveryMount(key))
        throw new ErrnoError(EINVAL, `option ${printable(key)}: not with service, which decides how it mounts`);
    const socket = options.find(({ key }) => key === 'service')?.value;
    const allowsOthers = options.some(({ key }) => key === 'allow_other');
    return reporting(MOUNT_FAILED, async () => {
      const { mountByService } = await import('../../service/client/mount.ts');
      await mountByService({ image, target, socket: socket ?? SERVICE_SOCKET, allowsOthers });
      return 0;
    });
  });
}

/** Options that say something about a mount of the service. */
const SERVICE_OPTIONS: readonly ByteString[] = ['service', 'allow_other'];

function refuseRestart(): number {
  complain('option restart=on: not in the foreground, where the program that has started this one can restart it');
  return WRONG_CALL;
}

function changeMount(target: ByteString, { options, fake, verbose }: MountCommandFlags): Promise<number> {
  return reporting(MOUNT_FAILED, () => {
    const idle = fake ? [] : remount(target, options);
    if (verbose && idle.length > 0) complain(`not changed by remount: ${idle.map(printable).join(', ')}`);
    return 0;
  });
}

/** @param asHelper called by mount(8) */
export function define(asHelper = false): Command {
  const command = newCommand('lowerdata mount')
    .description(
      'Mount a composefs image, or a stack of layers: normal ones, top first, then data-only ones after `::`.',
    )
    .usage('[options] A:B::C|IMAGE MOUNTPOINT')
    .argument('<source>', 'the layers; with store= the name of an image; or just a name if an option gives them')
    .argument('<mountpoint>', 'a directory, or /dev/fd/N: a descriptor of /dev/fuse that is mounted already')
    .option('-o, --options <list>', 'mount options, separated by commas', collect, [])
    .option('-d, --debug', 'stay in the foreground and print each message')
    .option('-v, --verbose', 'say what protects the mount, and which options have no effect')
    .option('-s, --sloppy', 'ignore unknown options')
    .option('-r, --read-only', 'write nothing, even with upperdir')
    .option('-n, --no-mtab', 'without effect, for mount(8)')
    .option('-N, --namespace <ns>', 'without effect, for mount(8)')
    .option('-t, --types <type>', 'without effect, for mount(8)')
    .addOption(oneOf('--transport <kind>', 'dev, uring (io_uring) or fuse-native', valuesOf('transport')))
    .addOption(
      oneOf('--semantics <kind>', 'lowerdata, or kernel for the rules of Linux 6.18 only', valuesOf('semantics')),
    )
    .addOption(oneOf('--verity <mode>', 'off, on or require', valuesOf('verity')))
    .addHelpText('after', notes);
  return asHelper
    ? command.option('-f, --fake', 'check everything, but do not mount')
    : command
        .option('-f, --foreground', 'stay in the foreground')
        .option('--fake', 'check everything, but do not mount');
}

/** The text after the options. It is made when help is shown, not when a mount starts. */
function notes(): string {
  const rows = [...optionWords].flatMap(([key, { values, brief }]) => {
    const value = Array.isArray(values) ? values.join('|') : values;
    return brief === undefined ? [] : [[value === undefined ? key : `${key}=${value}`, brief] as const];
  });
  const width = Math.max(...rows.map(([tag]) => tag.length));
  const lines = rows.map(([tag, brief]) => `  ${tag.padEnd(width)}  ${brief}`);
  return `\nMount options that are often needed; lowerdata-options(5) has all:\n${lines.join('\n')}\n\n${NOTES}`;
}

const NOTES = `At boot: \`/srv/image.cfs::/srv/objects /srv/data lowerdata ro,nofail 0 0\` in /etc/fstab, after \`lowerdata install-helper\`.
\`-o remount,...\` changes nosuid, nodev, noexec and access times of a mount that is there, and leaves its tree as it is.
Units for systemd are in \`$(npm root -g)/lowerdata/systemd\`.`;

/** The plan of a mount; the exit status if there can be none, which has been reported. */
async function planOf(source: ByteString, flags: MountCommandFlags, invoker: Invoker): Promise<MountPlan | number> {
  const texts = invoker === 'mount.fuse3' ? flags.options.map(withoutFuse3Words) : [...flags.options];
  if (flags.debug) texts.push('debug');
  if (flags.readOnly) texts.push('ro');
  for (const key of ['transport', 'semantics', 'verity'] as const) {
    if (flags[key] !== undefined) texts.push(`${key}=${flags[key]}`);
  }
  let plan: MountPlan | undefined;
  const status = await reporting(MOUNT_FAILED, async () => {
    const stored = await storedImage(source, texts);
    return reporting(WRONG_CALL, () => {
      const isRoot = process.geteuid?.() === 0;
      const defaults = invoker === 'containers/storage' ? MOUNT_PROGRAM_DEFAULTS : undefined;
      plan = planMount({ source, texts, sloppy: flags.sloppy === true, isRoot, isImage, defaults, stored });
      return 0;
    });
  });
  return plan ?? status;
}

function printIgnoredOptions({ withoutEffect }: MountPlan): void {
  if (withoutEffect.length > 0) complain(`without effect here: ${withoutEffect.map(printable).join(', ')}`);
}

async function mount(
  { plan, inherited }: Pick<MountOrder, 'plan' | 'inherited'>,
  target: ByteString,
  flags: MountCommandFlags,
  ready: (readiness: Readiness) => void,
  wording: Wording | undefined,
): Promise<number> {
  const leaveDirectory = (): void => process.chdir('/'); // no directory is kept busy
  const mountpoint = findMountpoint(target);
  const order: MountOrder = { plan: await sealed(plan), inherited, mountpoint, leaveDirectory };
  if (!existsSync('/dev/fuse')) {
    complain('/dev/fuse is missing: is the fuse module loaded, and the device there in this container?');
    return SYSTEM_ERROR;
  }
  if (flags.fake) return 0;
  if (flags.foreground || plan.driver.debug) {
    const { leave, serveMount } = await import('../../mount/daemon.ts');
    const status = await reporting(MOUNT_FAILED, () => serveMount(order, ready, complainIfHeard), wording);
    return leave(status);
  }
  return (await import('../../mount/launch.ts')).serveInBackground(order, ready);
}

/** Finds the mount point. Throws ErrnoError unless it is a directory that can be mounted on, or a descriptor of /dev/fuse. */
function findMountpoint(path: ByteString): MountPoint | HandedConnection {
  if (HandedConnection.descriptorIn(path) >= 0) return HandedConnection.find(path);
  const point = MountPoint.find(path);
  const { shown } = point;
  if (shown === '/proc' || shown.startsWith('/proc/')) {
    // the daemon would wait for its own answer
    throw new ErrnoError(EBUSY, `mount point ${printable(path)}: the process that would serve it reads /proc`);
  }
  try {
    statSync(bufferOf(point.target));
  } catch (error) {
    const { errno = -EINVAL } = error as NodeJS.ErrnoException;
    const dead = errno === -ENOTCONN ? ': a dead mount is there; `umount` it first' : '';
    throw new ErrnoError(-errno, `mount point ${printable(path)}: ${errnoText(errno)}${dead}`);
  }
  return point;
}
