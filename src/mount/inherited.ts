/**
 * Descriptors that the command inherited from its caller. Its daemon must not keep them: locks, pipes and files would stay in
 * use.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { native } from '../sys/native.ts';

const STDERR = 2;
const O_ACCMODE = 3;
const CLOSE_RANGE_CLOEXEC = 4;
/** Targets of descriptors that Node.js opened. '' is the descriptor of readdir, which is closed again. */
const OF_NODE = ['', '/dev/null', ...['eventpoll', 'eventfd', 'io_uring'].map(kind => `anon_inode:[${kind}]`)];

/**
 * The open descriptors, except the standard streams and those of Node.js. Must be called before this program opens anything.
 * Marks them close-on-exec, so that child processes do not get them.
 * @param own a descriptor that bin/lowerdata has opened for this process
 */
export function inheritedDescriptors(own: number | undefined): number[] {
  const open = openDescriptors().map(describe);
  // libuv wakes itself through pipes of which it has both ends. A caller's pipe is rarely inherited with both ends.
  const isWhole = ({ link, isWriter }: Open): boolean =>
    link.startsWith('pipe:') && open.some(other => other.link === link && other.isWriter !== isWriter);
  const inherited = open
    .filter(one => one.fd > STDERR && one.fd !== own && !OF_NODE.includes(one.link) && !isWhole(one))
    .map(({ fd }) => fd);
  for (const fd of inherited) native.closeRange(fd, fd, CLOSE_RANGE_CLOEXEC);
  return inherited;
}

interface Open {
  readonly fd: number;
  /** The target of the link in /proc; '' for a descriptor that is no longer open. */
  readonly link: string;
  readonly isWriter: boolean;
}

function describe(fd: number): Open {
  try {
    const link = readlinkSync(`/proc/self/fd/${fd}`);
    const [, flags = '0'] = /^flags:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1')) ?? [];
    return { fd, link, isWriter: (Number.parseInt(flags, 8) & O_ACCMODE) !== 0 };
  } catch {
    return { fd, link: '', isWriter: false };
  }
}

function openDescriptors(): number[] {
  try {
    return readdirSync('/proc/self/fd').map(Number);
  } catch {
    return []; // /proc is not mounted
  }
}
