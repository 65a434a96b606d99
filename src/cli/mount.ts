/** `lowerdata mount`, and what mount(8) and mount.fuse3 call. */
import { existsSync, statSync } from 'node:fs';
import type { Command } from 'commander';
import { type Name, nameBytes, printable } from '../sys/bytes.ts';
import { EBUSY, EINVAL, ENOTCONN, ENOTDIR, ErrnoError } from '../sys/errno.ts';
import { realPath } from '../sys/real-path.ts';
import { collect, newCommand, oneOf, parse } from './command.ts';
import type { MountOrder } from './daemon.ts';
import { isImage, type MountPlan, planMount, valuesOf, withoutFuse3Words } from './mount-options.ts';
import {
  complain,
  complainIfHeard,
  MOUNT_FAILED,
  reporting,
  SYSTEM_ERROR,
  type Wording,
  WRONG_CALL,
} from './report.ts';

interface Flags {
  readonly options: Name[];
  readonly foreground?: true;
  readonly fake?: true;
  readonly verbose?: true;
  readonly sloppy?: true;
  readonly debug?: true;
  readonly transport?: Name;
  readonly semantics?: Name;
  readonly verity?: Name;
}

/**
 * Who calls: a person, who is told what the mount protects; mount(8), for which -f means: check everything, but do not mount;
 * mount.fuse3, which has words of its own among the options; another program. Programs expect silence.
 */
export type Caller = 'person' | 'mount(8)' | 'mount.fuse3' | 'program';

/** @param wording how a mount that failed is told, for a program that has words of its own for it */
export async function run(args: readonly Name[], caller: Caller = 'person', wording?: Wording): Promise<number> {
  const command = define(caller === 'mount(8)');
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const [source, target] = command.args as [Name, Name];
  const flags = command.opts<Flags>();
  let plan: MountPlan | undefined;
  const status = await reporting(WRONG_CALL, () => {
    plan = planOf(
      source,
      caller === 'mount.fuse3' ? { ...flags, options: flags.options.map(withoutFuse3Words) } : flags,
    );
    return 0;
  });
  if (!plan) return status;
  const { driver } = plan;
  const staysHere = flags.foreground || flags.fake || driver.debug;
  if (!staysHere) (await import('./launch.ts')).haveItWaitedFor();
  if (flags.verbose || driver.debug) tellIdle(plan);
  const order = { plan, mountpoint: target };
  const ready = (protection: string): void => {
    if (caller === 'person' || flags.verbose) complainIfHeard(`${printable(target)}: ${protection}`);
  };
  return reporting(MOUNT_FAILED, () => mount(order, flags, driver.debug, ready, wording), wording);
}

/** @param asHelper called by mount(8) */
export function define(asHelper = false): Command {
  const command = newCommand('lowerdata mount')
    .description(
      'Mount a composefs image, or a stack of layers: normal ones, top first, then data-only ones after `::`.',
    )
    .usage('[options] A:B::C|IMAGE MOUNTPOINT')
    .argument('<source>', 'the layers, or only a name if an option gives them')
    .argument('<mountpoint>', 'a directory')
    .option('-o, --options <list>', 'mount options, separated by commas', collect, [])
    .option('-d, --debug', 'stay in the foreground and print each message')
    .option('-v, --verbose', 'name the options that have no effect')
    .option('-s, --sloppy', 'ignore unknown options')
    .option('-n, --no-mtab', 'without effect, for mount(8)')
    .option('-N, --namespace <ns>', 'without effect, for mount(8)')
    .option('-t, --types <type>', 'without effect, for mount(8)')
    .addOption(oneOf('--transport <kind>', 'dev or fuse-native', valuesOf('transport')))
    .addOption(
      oneOf('--semantics <kind>', 'lowerdata, or kernel for the rules of Linux 6.18 only', valuesOf('semantics')),
    )
    .addOption(oneOf('--verity <mode>', 'off, on or require', valuesOf('verity')))
    .addHelpText('after', `\n${NOTES}`);
  return asHelper
    ? command.option('-f, --fake', 'check everything, but do not mount')
    : command
        .option('-f, --foreground', 'stay in the foreground')
        .option('--fake', 'check everything, but do not mount');
}

const NOTES = `At boot: \`/srv/image.cfs::/srv/objects /srv/data lowerdata ro,nofail 0 0\` in /etc/fstab, after \`lowerdata install-helper\`.
The package has units for systemd in its folder \`systemd\`.`;

function planOf(source: Name, flags: Flags): MountPlan {
  const texts = [...flags.options];
  if (flags.debug) texts.push('debug');
  for (const key of ['transport', 'semantics', 'verity'] as const) {
    if (flags[key] !== undefined) texts.push(`${key}=${flags[key]}`);
  }
  const isRoot = process.geteuid?.() === 0;
  return planMount({ source, texts, sloppy: flags.sloppy === true, isRoot, isImage });
}

function tellIdle({ withoutEffect }: MountPlan): void {
  if (withoutEffect.length > 0) complain(`without effect here: ${withoutEffect.map(printable).join(', ')}`);
}

async function mount(
  order: MountOrder,
  flags: Flags,
  debug: boolean,
  ready: (protection: string) => void,
  wording: Wording | undefined,
): Promise<number> {
  const resolved = { ...order, mountpoint: resolveMountpoint(order.mountpoint) };
  if (!existsSync('/dev/fuse')) {
    complain('/dev/fuse is missing: is the fuse module loaded, and the device there in this container?');
    return SYSTEM_ERROR;
  }
  if (flags.fake) return 0;
  if (flags.foreground || debug) {
    const { leave, serveMount } = await import('./daemon.ts');
    const status = await reporting(MOUNT_FAILED, () => serveMount(resolved, ready, complainIfHeard), wording);
    return leave(status);
  }
  return (await import('./launch.ts')).serveInBackground(resolved, ready);
}

/** Throws ErrnoError where it is no directory that can be mounted on. */
function resolveMountpoint(path: Name): Name {
  if (path.startsWith('/dev/fd/')) {
    throw new ErrnoError(EINVAL, `${printable(path)}: a descriptor that is mounted already can not be served yet`);
  }
  try {
    const real = realPath(path);
    if (statSync(nameBytes(real) as Buffer).isDirectory()) return usable(real);
  } catch (error) {
    if (error instanceof ErrnoError) throw error;
    const { errno = -EINVAL, code, message } = error as NodeJS.ErrnoException;
    const dead = errno === -ENOTCONN ? ': a dead mount is there; `umount` it first' : '';
    throw new ErrnoError(-errno, `mount point ${printable(path)}: ${code ?? message}${dead}`);
  }
  throw new ErrnoError(ENOTDIR, `mount point ${printable(path)}: not a directory`);
}

/** Throws ErrnoError EBUSY for what a process that serves a mount has to read itself: it would wait for its own answer. */
function usable(mountpoint: Name): Name {
  if (mountpoint !== '/proc' && !mountpoint.startsWith('/proc/')) return mountpoint;
  throw new ErrnoError(EBUSY, `mount point ${printable(mountpoint)}: the process that would serve it reads /proc`);
}
