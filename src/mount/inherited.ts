/** Descriptors that the caller of the command had open, and that its daemon is not to keep: locks, pipes and files would stay. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { native } from '../sys/native.ts';

const STDERR = 2;
const O_ACCMODE = 3;
const CLOSE_RANGE_CLOEXEC = 4;
/** '': of the directory that was listed, and is closed again. */
const OF_NODE = ['', '/dev/null', ...['eventpoll', 'eventfd', 'io_uring'].map(kind => `anon_inode:[${kind}]`)];

/**
 * What is open here besides the standard streams and what Node.js itself has opened. To be asked before this program opens
 * anything. Programs that are started do not get them.
 * @param own a descriptor that bin/lowerdata has opened for this process
 */
export function inheritedDescriptors(own: number | undefined): number[] {
  const open = openDescriptors().map(describe);
  // libuv wakes itself with pipes of which it has both ends; a caller's is rarely inherited whole
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
  /** What /proc shows; '' for one that is not open any more. */
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
    return []; // there is no /proc
  }
}
