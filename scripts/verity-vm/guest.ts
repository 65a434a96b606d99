/** Helpers of the checks: TAP output, programs, mounts, and the daemon as /proc shows it. */
import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { release } from 'node:os';
import { fileURLToPath } from 'node:url';
import { inspect, isDeepStrictEqual } from 'node:util';

/** The mount point of the device. */
export const DISK = '/disk';
export const MOUNTPOINTS = { lowerdata: '/mnt/lowerdata', overlay: '/mnt/overlay', erofs: '/mnt/erofs' } as const;

/** Content that differs between files and between blocks. */
export function contentOf(name: string, sizeBytes: number): Buffer {
  const content = Buffer.alloc(sizeBytes, `${name}\n`);
  for (let at = 0; at + 4 <= sizeBytes; at += 4096) content.writeUInt32LE(at, at);
  return content;
}

let lines = 0;

/** Prints whether the two values are equal, and both of them if they are not. */
export function check(rule: string, found: unknown, wanted: unknown): void {
  const isSame = isDeepStrictEqual(found, wanted);
  console.log(`${isSame ? 'ok' : 'not ok'} ${++lines} - ${rule}`);
  if (!isSame) console.log(`found ${shown(found)}\nwanted ${shown(wanted)}`.replace(/^/gm, '# '));
}

const shown = (value: unknown): string => inspect(value, { breakLength: 120, maxArrayLength: 10 });

export function skip(rule: string, reason: string): void {
  console.log(`ok ${++lines} - ${rule} # SKIP ${reason}`);
}

/** Prints the plan, which shows that all checks were made. */
export function finish(): void {
  console.log(`1..${lines}`);
}

/** The reason why a feature of a kernel release cannot be tested here; undefined if it can. */
export function olderThan(major: number, minor: number): string | undefined {
  const [ourMajor = 0, ourMinor = 0] = release().split('.').map(Number);
  const isOlder = ourMajor < major || (ourMajor === major && ourMinor < minor);
  return isOlder ? `Linux ${release()} is older than ${major}.${minor}` : undefined;
}

/** The output of a program. Throws with its messages if it fails. */
export function run(program: string, ...args: string[]): string {
  return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();
}

const command = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

/** The output of the command line. */
export function lowerdata(...args: string[]): string {
  return run(process.execPath, command, ...args);
}

/** Mounts with lowerdata and returns the result of `use`. */
export function withLowerdata<T>(source: string, options: readonly string[], use: (root: string) => T): T {
  const root = MOUNTPOINTS.lowerdata;
  lowerdata('mount', source, root, '-o', options.join());
  try {
    return use(root);
  } finally {
    lowerdata('umount', root);
  }
}

/** Mounts with the kernel's overlayfs. */
export function withOverlayfs<T>(options: string, use: (root: string) => T): T {
  return withKernelMount('overlay', 'overlay', options, MOUNTPOINTS.overlay, use);
}

/** Mounts an image with the kernel's EROFS. */
export function withErofs<T>(image: string, use: (root: string) => T): T {
  return withKernelMount('erofs', image, 'loop', MOUNTPOINTS.erofs, use);
}

function withKernelMount<T>(type: string, source: string, options: string, root: string, use: (root: string) => T): T {
  run('mount', '-t', type, '-o', `ro,${options}`, source, root);
  try {
    return use(root);
  } finally {
    run('umount', root);
  }
}

/** The kernel's own digest of a file as `sha256:HEX`, or the error message of the program fsverity. */
export function kernelDigest(path: string): string {
  const { stdout, stderr } = spawnSync('fsverity', ['measure', path], { encoding: 'utf8' });
  return stdout === '' ? stderr.trim() : (stdout.split(' ')[0] as string);
}

export function withOpen<T>(path: string, flags: string, use: (fd: number) => T): T {
  const fd = openSync(path, flags);
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}

/** The bytes that the daemon of the mount read through read(2) and similar calls while `act` ran. */
export function bytesReadBy(act: () => void): number {
  const pid = daemonPid();
  const rchar = (): number => Number(/^rchar: (\d+)/m.exec(readFileSync(`/proc/${pid}/io`, 'latin1'))?.[1]);
  const before = rchar();
  act();
  return rchar() - before;
}

/** The process that has /dev/fuse open. */
function daemonPid(): string {
  const pid = readdirSync('/proc').find(name => /^\d+$/.test(name) && opened(name).includes('/dev/fuse'));
  if (pid === undefined) throw new Error('no process has /dev/fuse open');
  return pid;
}

/** The paths of a process's open descriptors. */
function opened(pid: string): string[] {
  const folder = `/proc/${pid}/fd`;
  try {
    return readdirSync(folder).map(fd => readlinkSync(`${folder}/${fd}`));
  } catch {
    return []; // the process or a descriptor has gone; the daemon is idle, so it is another one
  }
}

/** The result of `act`, or the name of the error if a system call in it fails. */
export function orErrno<T>(act: () => T): T | string {
  try {
    return act();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === undefined) throw error;
    return code;
  }
}
