/** Attributes, formatted as ls(1) and stat(1) print them. */
import type { ByteString, Seconds } from '../sys/bytes.ts';
import {
  type Attr,
  rdevMajor,
  rdevMinor,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
} from '../sys/stat.ts';

interface FileType {
  /** The first letter of a mode in `ls -l`. */
  readonly letter: string;
  /** The type's name in JSON, and in what `compare` and `explain` print. */
  readonly name: string;
  /** The type's name in stat(1). */
  readonly words: string;
}

const types = new Map<number, FileType>([
  [S_IFSOCK, { letter: 's', name: 'socket', words: 'socket' }],
  [S_IFLNK, { letter: 'l', name: 'symlink', words: 'symbolic link' }],
  [S_IFREG, { letter: '-', name: 'regular file', words: 'regular file' }],
  [S_IFBLK, { letter: 'b', name: 'block device', words: 'block special file' }],
  [S_IFDIR, { letter: 'd', name: 'directory', words: 'directory' }],
  [S_IFCHR, { letter: 'c', name: 'character device', words: 'character special file' }],
  [S_IFIFO, { letter: 'p', name: 'fifo', words: 'fifo' }],
]);
const UNKNOWN: FileType = { letter: '?', name: 'unknown', words: 'weird file' };

export const fileType = (mode: number): FileType => types.get(mode & S_IFMT) ?? UNKNOWN;

/** Permission bits as four octal digits. */
export const octal = (mode: number): string => (mode & 0o7777).toString(8).padStart(4, '0');

/** Type and permissions in ten characters, such as `drwxr-sr-t`. */
export function modeText(mode: number): string {
  const set = (bit: number, letter: string): string => (mode & bit ? letter : '-');
  const execute = (bit: number, special: number, letter: string): string => {
    if (!(mode & special)) return set(bit, 'x');
    return mode & bit ? letter : letter.toUpperCase();
  };
  return [
    fileType(mode).letter,
    set(0o400, 'r') + set(0o200, 'w') + execute(0o100, 0o4000, 's'),
    set(0o040, 'r') + set(0o020, 'w') + execute(0o010, 0o2000, 's'),
    set(0o004, 'r') + set(0o002, 'w') + execute(0o001, 0o1000, 't'),
  ].join('');
}

/** The major and minor number of a device; undefined for other types. */
export function deviceNumbers({ mode, rdev }: Pick<Attr, 'mode' | 'rdev'>): [number, number] | undefined {
  const { letter } = fileType(mode);
  return letter === 'c' || letter === 'b' ? [rdevMajor(rdev), rdevMinor(rdev)] : undefined;
}

/** A time in UTC, such as `2026-11-24 00:26:31.000000001 +0000`; `N s after 1970` if it is beyond the range of Date. */
export function timeText(seconds: Seconds, nanoseconds: number): string {
  const date = new Date(Number(seconds) * 1000);
  if (Number.isNaN(date.getTime())) return `${seconds} s after 1970`; // out of range for Date
  const [day, time] = date
    .toISOString()
    .replace(/^\+0*(?=\d{4})/, '')
    .split(/[T.]/);
  return `${day} ${time}.${String(nanoseconds).padStart(9, '0')} +0000`;
}

/** A time in UTC, such as `2026-11-24 00:26`; the number of seconds if no date can hold it, as in ls(1). */
export function minuteText(seconds: Seconds): string {
  const isDate = Math.abs(Number(seconds)) <= DATE_SECONDS_MAX;
  return isDate ? timeText(seconds, 0).replace(/:\d\d\.\d+ .*$/, '') : String(seconds);
}
/** The largest time of a Date, in seconds. Source: ECMA-262, "Time Values and Time Range". */
const DATE_SECONDS_MAX = 8.64e12;

/**
 * A time as `SECONDS.NNNNNNNNN`, exact for 64 bits of seconds. Nanoseconds count forward from the seconds before 1970, too, as in
 * struct timespec: half a second before 1970 is -1.500000000.
 */
export const secondsText = (seconds: Seconds, nanoseconds: number): string =>
  `${seconds}.${String(nanoseconds).padStart(9, '0')}`;

/** The ` -> target` that follows the name of a symlink; '' for undefined. */
export const arrow = (target: ByteString | undefined): ByteString => (target === undefined ? '' : ` -> ${target}`);
