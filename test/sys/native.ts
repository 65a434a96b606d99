/**
 * Proves src/sys/native.ts: what the addon holds, every call's errno, and that a wrong argument does nothing but fail.
 * What the calls do when they work is in native-{files,changes,attributes,mount}.ts.
 */
import * as fs from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { EBADF, EINVAL, ENAMETOOLONG, ENODATA, ENODEV, ENOENT, EPERM, ESRCH, errnoName } from '../../src/sys/errno.ts';
import { type Native, native } from '../../src/sys/native.ts';
import { SOCK_DGRAM, SOCK_STREAM } from '../../src/sys/sockets/types.ts';
import { descriptors, openOrThrow } from '../fixtures/native.ts';

const AT_FDCWD = -100;
const AT_EMPTY_PATH = 0x1000;

const home = t.testdir({ file: 'x' });
const file = join(home, 'file');
const missing = join(home, 'missing');

const bytes = new Uint8Array(4096);
const none = new Uint8Array(0);
const handle = Uint8Array.from([8, 0, 0, 0, 1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);

/** What the kernel says to users before it looks at the arguments. */
const refusedTo = process.getuid?.() === 0 ? undefined : -EPERM;

/** They take no argument. */
const NEVER_FAIL = ['epollCreate', 'loopDescriptor', 'loopTimeout', 'prepareStreams', 'setsid'] as const;
/** For every other function arguments of the right types that must fail, and how. */
const failing: Record<Exclude<keyof Native, (typeof NEVER_FAIL)[number]>, [args: unknown[], want: number]> = {
  fuseReceive: [[-1, bytes], -EBADF],
  fuseReply: [[-1, bytes, 16], -EBADF],
  fuseReplyReceive: [[-1, bytes, 16, bytes], -EBADF - 4096],
  fuseBackingOpen: [[-1, -1], -EBADF],
  fuseBackingClose: [[-1, 1], -EBADF],
  mount: [['none', missing, 'tmpfs', 0, ''], -ENOENT],
  umount: [[missing, 0], -ENOENT],
  openTree: [[AT_FDCWD, missing, 0], -ENOENT],
  mountSetattr: [[-1, 4, 0, 0], refusedTo ?? -EBADF],
  fsopen: [['no-such-type'], refusedTo ?? -ENODEV],
  fsconfig: [[1000, 6, '', '', 0], -EBADF],
  fsmount: [[-1, 0], refusedTo ?? -EBADF],
  namespaceOwner: [[-1], -EBADF],
  moveMount: [[AT_FDCWD, missing, AT_FDCWD, missing, 0], refusedTo ?? -ENOENT],
  close: [[-1], -EBADF],
  closeRange: [[2, 1, 0], -EINVAL],
  flock: [[-1, 2], -EBADF],
  duplicate: [[-1, 0], -EBADF],
  memoryFile: [['x'.repeat(250)], -EINVAL],
  addSeals: [[-1, 15], -EBADF],
  growTable: [[-1, 1000], -EBADF],
  replace: [[-1, 1000], -EBADF],
  setStatusFlags: [[-1, 0], -EBADF],
  poll: [[new Int32Array(9), 1, 0], -EINVAL],
  openat2: [[AT_FDCWD, missing, 0, 0], -ENOENT],
  statx: [[AT_FDCWD, missing, 0, 0x7ff, bytes], -ENOENT],
  getdents: [[-1, bytes], -EBADF],
  readlinkat: [[AT_FDCWD, missing, bytes], -ENOENT],
  pread: [[-1, bytes, 0, 1, 0], -EBADF],
  lseek: [[-1, 0, 0], -EBADF],
  fstatfs: [[-1, new Float64Array(10)], -EBADF],
  nameToHandleAt: [[AT_FDCWD, missing, 0, bytes], -ENOENT],
  openByHandleAt: [[-1, handle, 0], -EBADF],
  fileFlags: [[-1, bytes], -EBADF],
  fileXattr: [[-1, bytes], -EBADF],
  filesystemUuid: [[-1, bytes], -EBADF],
  btrfsUuid: [[-1, bytes], -EBADF],
  openat: [[-1, 'a', 0, 0], -EBADF],
  mkdirat: [[-1, 'a', 0], -EBADF],
  mknodat: [[-1, 'a', 0, 0, 0], -EBADF],
  symlinkat: [['a', -1, 'a'], -EBADF],
  linkat: [[-1, 'a', -1, 'a', 0], -EBADF],
  unlinkat: [[-1, 'a', 0], -EBADF],
  renameat2: [[-1, 'a', -1, 'a', 0], -EBADF],
  fchownat: [[-1, 'a', -1, -1, 0], -EBADF],
  fchmodat: [[-1, 'a', 0], -EBADF],
  utimensat: [[-1, 'a', new Uint8Array(32), 0], -EBADF],
  ftruncate: [[-1, 0], -EBADF],
  fallocate: [[-1, 0, 0, 1], -EBADF],
  pwrite: [[-1, bytes, 0, 1, 0], -EBADF],
  fsync: [[-1], -EBADF],
  fdatasync: [[-1], -EBADF],
  syncfs: [[-1], -EBADF],
  copyFileRange: [[-1, 0, -1, 0, 1], -EBADF],
  clone: [[-1, -1], -EBADF],
  setFileFlags: [[-1, bytes], -EBADF],
  setFileXattr: [[-1, bytes], -EBADF],
  lgetxattr: [[missing, 'user.a', bytes], -ENOENT],
  getxattr: [[missing, 'user.a', bytes], -ENOENT],
  listxattr: [[missing, bytes], -ENOENT],
  getxattrat: [[-1, 'a', 0, 'user.a', bytes], -EBADF],
  listxattrat: [[-1, 'a', 0, bytes], -EBADF],
  fgetxattr: [[-1, 'user.a', bytes], -EBADF],
  flistxattr: [[-1, bytes], -EBADF],
  setxattr: [[missing, 'user.a', none, 0], -ENOENT],
  removexattr: [[missing, 'user.a'], -ENOENT],
  setxattrat: [[-1, 'a', 0, 'user.a', none, 0], -EBADF],
  removexattrat: [[-1, 'a', 0, 'user.a'], -EBADF],
  measureVerity: [[-1, bytes], -EBADF],
  enableVerity: [[-1, 1, 4096], -EBADF],
  hashBlocks: [[3, none, bytes, 4096, bytes], -EINVAL],
  uringSetup: [[0, bytes], -EINVAL],
  uringEnter: [[-1, 0, 0], -EBADF],
  map: [[-1, 0, 0], -EINVAL],
  advise: [[bytes, -1], -EINVAL],
  addressOf: [[none], -EINVAL],
  execute: [[missing, Uint8Array.of(0x78, 0)], -ENOENT],
  spawn: [[missing, Uint8Array.of(0x78, 0), 0, Int32Array.of(8)], -ENOENT],
  exit: [['no status'], -EINVAL],
  socketPair: [[new Int32Array(1), SOCK_STREAM], -EINVAL],
  connectSocket: [[missing, SOCK_STREAM], -ENOENT],
  listenStream: [[join(missing, 'socket')], -ENOENT],
  accept: [[-1], -EBADF],
  peerCredentials: [[-1, new Int32Array(3)], -EBADF],
  peerGroups: [[-1, new Int32Array(3)], -EBADF],
  sendMessage: [[-1, bytes, new Int32Array(0)], -EBADF],
  receiveMessage: [[-1, bytes, new Int32Array(0), 0], -EBADF],
  epollControl: [[-1, 1, -1, 1], -EBADF],
  epollWait: [[-1, new Int32Array(2), 0], -EBADF],
  callOnThread: [[2 ** 30, 0, 0, 0, 0], -ESRCH],
  landlockCreateRuleset: [[none, 16], -EINVAL],
  landlockAddRule: [[-1, 1, bytes], -EBADF],
  seccomp: [[-1, 0, none], -EINVAL],
  benchPaths: [[-1, 0, Uint8Array.of(0x78, 0), bytes, new Float64Array(1)], -EBADF],
  benchReads: [[-1, new Float64Array(1), bytes, new Float64Array(1)], -EBADF],
  benchWrites: [[-1, new Float64Array(1), bytes, new Float64Array(1)], -EBADF],
  benchTouches: [[-1, new Float64Array(1), new Float64Array(1)], -EBADF],
  benchRuns: [[missing, '-c', 'pass', new Float64Array(1)], -ENOENT],
  benchUser: [[-1, -1], -EINVAL],
};
const call = (name: string, args: unknown[]): unknown =>
  (native as unknown as Record<string, (...args: unknown[]) => unknown>)[name]?.(...args);

t.test('the addon has the declared functions and no other', async t => {
  const source = fs.readFileSync(join(import.meta.dirname, '../../../src/sys/native.ts'), 'latin1');
  const body = /export interface Native \{(.*?)\n\}/s.exec(source)?.[1] ?? '';
  const declared = [...body.matchAll(/^ {2}(\w+)\(/gm)].map(m => m[1]);
  t.same(Object.keys(native), declared, 'in the order of the declaration');
  const can = declared.filter(name => !NEVER_FAIL.some(one => one === name));
  t.same(Object.keys(failing), can, 'and each that can fail is called below');
});

t.test('every function fails with its errno and leaves no descriptor behind', async t => {
  const before = descriptors();
  for (const [name, [args, want]] of Object.entries(failing))
    t.equal(call(name, args), want, `${name}: ${errnoName(want)}`);
  t.equal(descriptors(), before, 'as many descriptors as before');
});

/** Which values in the place of each argument are not refused. */
function acceptedWrong(name: string, args: readonly unknown[]): string[] {
  const numbers = [NaN, Infinity, 1.5, 2 ** 60, 1n];
  const objects = [{}, [], () => 0, new Proxy({}, {}), null, undefined, true, Symbol('s')];
  const arrays = [new ArrayBuffer(16), new DataView(new ArrayBuffer(16)), new Uint16Array(256), new BigInt64Array(9)];
  const never = [...numbers, ...objects, ...arrays];
  const unless = { string: ['a\0b', '\0', 0, bytes], number: ['0', '', bytes], object: ['bytes', 0, 1] };
  return args.flatMap((right, i) => {
    const kind = (name === 'exit' ? 'number' : typeof right) as keyof typeof unless;
    const accepted = [...never, ...unless[kind]].filter(value => call(name, args.with(i, value)) !== -EINVAL);
    return accepted.map(value => `argument ${i}: ${String(value)}`);
  });
}

t.test('an argument of a wrong type, range or length is refused', async t => {
  // hashBlocks fails in no other way, so that only arguments that work show which one is refused.
  const works = [1, none, bytes, 4096, new Uint8Array(32)];
  t.equal(call('hashBlocks', works), 1, 'hashBlocks: works');
  for (const [name, [args]] of Object.entries({ ...failing, hashBlocks: [works] as const })) {
    t.same(acceptedWrong(name, args), [], `${name}: no wrong argument is accepted`);
    const short = args.map((_, i) => call(name, args.slice(0, i)));
    t.same(new Set(short), new Set([-EINVAL]), `${name}: nor a missing one`);
  }
});

t.test('a string that is too long is refused', async t => {
  for (const [name, [args]] of Object.entries(failing).filter(([name]) => name !== 'exit'))
    for (const [i, arg] of args.entries()) {
      if (typeof arg !== 'string') continue;
      t.equal(call(name, args.with(i, 'x'.repeat(5000))), -ENAMETOOLONG, `${name}: argument ${i}`);
    }
});

t.test('an array whose memory was given away has no bytes', async t => {
  const gone = new Uint8Array(512);
  structuredClone(gone.buffer, { transfer: [gone.buffer] });
  for (const [name, [args, want]] of Object.entries(failing)) {
    const results = args.map((arg, i) => (arg === bytes ? call(name, args.with(i, gone)) : want));
    t.ok(
      results.every(result => result === want || result === -EINVAL),
      name,
    );
  }
});

t.test('bounds', async t => {
  const fd = openOrThrow(file);
  const dots = new TextEncoder().encode('.\0.\0');
  const times = new Float64Array(1);
  const shorter = Uint8Array.from([9, ...handle.subarray(1)]);
  for (const [rule, result, want] of [
    ['statx needs 256 bytes', native.statx(fd, '', AT_EMPTY_PATH, 0x7ff, new Uint8Array(255)), -EINVAL],
    ['fstatfs needs ten numbers', native.fstatfs(fd, new Float64Array(9)), -EINVAL],
    ['flags need 4 bytes', native.fileFlags(fd, new Uint8Array(3)), -EINVAL],
    ['struct fsxattr needs 28', native.fileXattr(fd, new Uint8Array(27)), -EINVAL],
    ['a uuid needs 16 bytes', native.filesystemUuid(fd, new Uint8Array(15)), -EINVAL],
    ['nor has that of btrfs fewer', native.btrfsUuid(fd, new Uint8Array(15)), -EINVAL],
    ['a reply is no longer than its buffer', native.fuseReply(fd, new Uint8Array(16), 17), -EINVAL],
    ['nor is it here', native.fuseReplyReceive(fd, new Uint8Array(16), 17, bytes), -EINVAL],
    ['pread ends inside of its buffer', native.pread(fd, new Uint8Array(8), 4, 5, 0), -EINVAL],
    ['pread starts inside of its buffer', native.pread(fd, new Uint8Array(8), 9, 0, 0), -EINVAL],
    ['pread does not wrap around', native.pread(fd, new Uint8Array(8), 2 ** 53, 2 ** 53, 0), -EINVAL],
    ['pread has no negative place', native.pread(fd, new Uint8Array(8), -1, 1, 0), -EINVAL],
    ['pread has no negative position', native.pread(fd, new Uint8Array(8), 0, 1, -1), -EINVAL],
    ['pwrite ends inside of its buffer', native.pwrite(fd, new Uint8Array(8), 4, 5, 0), -EINVAL],
    ['pwrite does not wrap around', native.pwrite(fd, new Uint8Array(8), 2 ** 53, 2 ** 53, 0), -EINVAL],
    ['times need 32 bytes', native.utimensat(AT_FDCWD, file, new Uint8Array(31), 0), -EINVAL],
    ['flags to set need 4 bytes', native.setFileFlags(fd, new Uint8Array(3)), -EINVAL],
    ['a struct fsxattr to set needs 28', native.setFileXattr(fd, new Uint8Array(27)), -EINVAL],
    ['no user is below -1', native.fchownat(AT_FDCWD, file, -2, -1, 0), -EINVAL],
    ['no group is past 32 bits', native.fchownat(AT_FDCWD, file, -1, 2 ** 32, 0), -EINVAL],
    ['a position past 2^53 is no number', native.pread(fd, new Uint8Array(8), 0, 1, 2 ** 53 + 2), -EINVAL],
    ['an offset below -2^53 is no number', native.lseek(fd, -(2 ** 53) - 2, 1), -EINVAL],
    ['a handle has a head', native.openByHandleAt(fd, handle.subarray(0, 7), 0), -EINVAL],
    ['a handle holds the bytes it claims', native.openByHandleAt(fd, shorter, 0), -EINVAL],
    ['there is no hash 0', native.hashBlocks(0, none, bytes, 4096, bytes), -EINVAL],
    ['there is no hash 3', native.hashBlocks(3, none, bytes, 4096, bytes), -EINVAL],
    ['blocks of no bytes', native.hashBlocks(1, none, bytes, 0, bytes), -EINVAL],
    ['blocks of a negative size', native.hashBlocks(1, none, bytes, -4096, bytes), -EINVAL],
    ['blocks past 64 KiB', native.hashBlocks(1, none, bytes, 65537, bytes), -EINVAL],
    ['SHA-256 takes 32 bytes', native.hashBlocks(1, none, bytes, 4096, new Uint8Array(31)), -EINVAL],
    ['SHA-512 takes 64 bytes', native.hashBlocks(2, none, bytes, 4096, new Uint8Array(63)), -EINVAL],
    ['a short last block has a hash, too', native.hashBlocks(1, none, bytes, 4095, new Uint8Array(63)), -EINVAL],
    ['a path of 4095 bytes fits', native.openat2(AT_FDCWD, `${'/'.repeat(4091)}none`, 0, 0), -ENOENT],
    ['a path of 4096 bytes does not', native.openat2(AT_FDCWD, `${'/'.repeat(4092)}none`, 0, 0), -ENAMETOOLONG],
    ['nor does a component of 256', native.openat2(AT_FDCWD, 'x'.repeat(256), 0, 0), -ENAMETOOLONG],
    ['an xattr name of 255 bytes fits', native.fgetxattr(fd, `user.${'x'.repeat(250)}`, none), -ENODATA],
    ['an xattr name of 256 bytes does not', native.fgetxattr(fd, `user.${'x'.repeat(251)}`, none), -ENAMETOOLONG],
    ['a path to be timed ends with a NUL', native.benchPaths(fd, 0, Uint8Array.of(0x78), none, times), -EINVAL],
    ['and needs a place for its time', native.benchPaths(AT_FDCWD, 0, dots, none, times), -EINVAL],
    ['there is no operation -1', native.benchPaths(AT_FDCWD, -1, dots, none, new Float64Array(2)), -EINVAL],
    ['reads need a place for their times', native.benchReads(fd, new Float64Array(2), bytes, times), -EINVAL],
    ['so do looks at a map', native.benchTouches(fd, new Float64Array(2), times), -EINVAL],
    ['nor 9', native.benchPaths(AT_FDCWD, 9, dots, none, new Float64Array(2)), -EINVAL],
    ['an address of 109 bytes does not', native.connectSocket(`@${'x'.repeat(108)}`, SOCK_DGRAM), -ENAMETOOLONG],
  ] as const)
    t.equal(result, want, rule);
  native.close(fd);
});
