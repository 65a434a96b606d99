/** Opens the upper and the work directory of a mount, and refuses those that cannot serve. */
import type { LayerContext } from '../layers/context.ts';
import type { DirInode } from '../layers/dir-inode.ts';
import { cloneOf, withoutAccessTimes } from '../layers/dir-objects.ts';
import type { StatSource } from '../layers/stored-stat.ts';
import { UpperLayer } from '../layers/upper.ts';
import type { UpperOptions } from '../overlay/options/rules.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { CONFINED, O_DIRECTORY, O_PATH, openIn } from '../sys/beneath.ts';
import { type ByteString, printable } from '../sys/bytes.ts';
import { EAGAIN, EBUSY, EINVAL, ENOTDIR, EROFS, ErrnoError, must } from '../sys/errno.ts';
import { LOCK_EX, LOCK_NB, pauseForLock } from '../sys/locks/flock.ts';
import { native } from '../sys/native.ts';
import { realPath } from '../sys/real-path.ts';
import * as sx from '../sys/statx.ts';
import { openIndex, whyNoIndex } from './open-index.ts';
import { WorkDirectory } from './work.ts';

const LOCK_EX_NB = LOCK_EX | LOCK_NB;
const ST_RDONLY = 1;
const WAITS_MAX = 50;
const WAIT_MS = 20;

/** How an upper directory is read. */
export interface UpperView {
  /** As for AufsLayer. */
  readonly opaque: readonly ByteString[];
  readonly source: StatSource | undefined;
  /** Whether reads leave access times as they are, also those that the kernel makes itself. */
  readonly noatime: boolean;
}

/** An upper directory and its work directory, both open and in use by this process alone. */
export class UpperRoots {
  readonly layer: UpperLayer;
  readonly work: WorkDirectory;
  /** A descriptor (O_PATH) of the directory of the option workdir. */
  private readonly base: number;
  /** Open descriptors that hold the locks on both directories. */
  private readonly locks: readonly number[];

  /**
   * @param context that of the other layers of the stack
   * Throws ErrnoError that names the directory: EINVAL for two that cannot belong together, EBUSY for one in use, EROFS for a
   * read-only filesystem
   */
  constructor({ upperdir, workdir, volatile }: UpperOptions, context: LayerContext, view: UpperView) {
    const [upper, work] = [found('upperdir', upperdir), found('workdir', workdir)];
    refuseApart(upper, work);
    this.locks = [lock(upper), lock(work)];
    const roots = onOneMount(upper, work, view.noatime);
    const opened = { fd: roots.upper, isClone: roots.isClone, plain: -1 };
    this.layer = new UpperLayer(upperdir, context, opened, view.opaque, view.source);
    this.storeRoot(roots.upper, upper.shown);
    this.work = new WorkDirectory(roots.work, work.shown);
    if (volatile === 'marked') this.work.markVolatile();
    this.base = roots.work;
    for (const fd of [upper.fd, work.fd]) native.close(fd);
  }

  /**
   * Opens the index for an overlay over these directories, if the stack can have one, and has the overlay use it. Throws ErrnoError
   * as openIndex does.
   */
  useIndex(overlay: Overlay): void {
    const { base, layer, work } = this;
    overlay.indexObstacle = whyNoIndex(overlay, layer, work);
    if (overlay.indexObstacle === undefined) overlay.index = openIndex(overlay, layer, work, base);
  }

  /** Stores the owner and the mode of a root that has not stored any: other programs look at the root first. */
  private storeRoot(fd: number, shown: string): void {
    const { layer } = this;
    if (!layer.storesStats || (layer.root as DirInode).stored) return;
    const { uid, gid, mode } = layer.attr(layer.root);
    must(layer.storeStat(fd, { uid, gid, mode, rdev: 0 }), `upperdir ${shown}: owner and mode as an xattr`);
  }

  close(): void {
    this.work.close();
    native.close(this.base);
    for (const fd of this.locks) native.close(fd); // the layer is closed with its stack
  }
}

/** A directory that an option names. */
interface Named {
  readonly option: string;
  readonly shown: string;
  readonly real: ByteString;
  /** A descriptor (O_PATH). */
  readonly fd: number;
  readonly device: string;
  readonly ino: string;
  readonly mountId: number;
}

function found(option: string, path: ByteString): Named {
  const shown = printable(path);
  const fd = openIn(sx.AT_FDCWD, path, O_PATH | O_DIRECTORY, 0);
  if (fd === -ENOTDIR) throw new ErrnoError(ENOTDIR, `${option} ${shown}: not a directory`);
  must(fd, `${option} ${shown}`);
  must(sx.statx(fd, ''), `${option} ${shown}`);
  const { major, minor } = sx.statxDevice();
  return {
    ...{ option, shown, fd },
    real: realPath(path),
    device: `${major}:${minor}`,
    ino: `${sx.statxInoHigh()}:${sx.statxInoLow()}`,
    mountId: sx.statxMountId(),
  };
}

/** Source: kernel fs/overlayfs/super.c, ovl_workdir_ok and ovl_get_workdir. */
function refuseApart(upper: Named, work: Named): void {
  const both = `upperdir ${upper.shown} and workdir ${work.shown}`;
  if (upper.mountId !== work.mountId || upper.device !== work.device)
    throw new ErrnoError(EINVAL, `${both}: must be on the same mount, because files are renamed from one to the other`);
  if (upper.ino === work.ino) throw new ErrnoError(EINVAL, `${both}: are the same directory`);
  const isInside = (one: Named, other: Named): boolean => `${one.real}/`.startsWith(`${other.real}/`);
  if (isInside(upper, work) || isInside(work, upper))
    throw new ErrnoError(EINVAL, `${both}: one lies inside the other`);
  const numbers = new Float64Array(10);
  must(native.fstatfs(upper.fd, numbers), `upperdir ${upper.shown}`);
  if (((numbers[9] as number) & ST_RDONLY) !== 0)
    throw new ErrnoError(EROFS, `upperdir ${upper.shown}: its filesystem is mounted read-only`);
}

/** Locks a directory against other mounts by this program. Returns the descriptor that holds the lock. */
function lock({ option, shown, fd }: Named): number {
  const opened = must(openIn(fd, '.', O_DIRECTORY, 0), `${option} ${shown}`);
  let locked = native.flock(opened, LOCK_EX_NB);
  for (let waits = 0; locked === -EAGAIN && waits < WAITS_MAX; waits++) {
    pauseForLock(WAIT_MS); // a mount that was just taken away lets go of its directories a moment later
    locked = native.flock(opened, LOCK_EX_NB);
  }
  if (locked === 0) return opened;
  native.close(opened);
  if (locked === -EAGAIN) throw new ErrnoError(EBUSY, `${option} ${shown}: in use by another mount`);
  throw new ErrnoError(-locked, `${option} ${shown}: cannot be locked`);
}

interface Roots {
  readonly upper: number;
  readonly work: number;
  readonly isClone: boolean;
}

/**
 * Opens both again in a private clone of their mount, in which nothing is mounted. The clone begins at a directory above both:
 * the kernel renames nothing from one mount to another. Without the right to clone, opens them as they are.
 */
function onOneMount(upper: Named, work: Named, noatime: boolean): Roots {
  const above = commonDirectory(upper.real, work.real);
  const top = openIn(sx.AT_FDCWD, above, O_PATH | O_DIRECTORY, 0);
  const clone = top < 0 ? top : cloneOf(top);
  if (clone >= 0 && noatime) withoutAccessTimes(clone);
  if (top >= 0) native.close(top);
  const names = [upper, work].map(({ real }) => real.slice(above === '/' ? 1 : above.length + 1));
  const [first, second] = names.map(name => (clone < 0 ? -1 : openIn(clone, name, O_PATH | O_DIRECTORY, CONFINED)));
  if (clone >= 0) native.close(clone);
  if (first !== undefined && second !== undefined && isAt(first, upper) && isAt(second, work))
    return { upper: first, work: second, isClone: true };
  for (const fd of [first, second]) if (fd !== undefined && fd >= 0) native.close(fd);
  return {
    upper: must(native.duplicate(upper.fd, 0), 'dup'),
    work: must(native.duplicate(work.fd, 0), 'dup'),
    isClone: false,
  };
}

/** Whether a descriptor is of the directory. */
function isAt(fd: number, { device, ino }: Named): boolean {
  if (fd < 0 || sx.statx(fd, '') < 0) return false;
  const { major, minor } = sx.statxDevice();
  return `${major}:${minor}` === device && `${sx.statxInoHigh()}:${sx.statxInoLow()}` === ino;
}

function commonDirectory(one: ByteString, other: ByteString): ByteString {
  const [parts, others] = [one.split('/'), other.split('/')];
  let same = 0;
  while (same < parts.length - 1 && same < others.length - 1 && parts[same] === others[same]) same++;
  return parts.slice(0, same).join('/') || '/';
}
