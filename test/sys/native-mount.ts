/** Proves native-shims/{mount,fuse_dev,process}.c: mounts, descriptors over sockets, /dev/fuse, the daemon's last words. */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { E2BIG, EBADF, EINVAL, ENODEV, ENOENT, ENOTTY, EOVERFLOW, EPERM } from '../../src/sys/errno.ts';
import { native } from '../../src/sys/native.ts';
import { closesOnExec, openOrThrow, python } from '../fixtures/native.ts';

const AT_FDCWD = -100;
const MNT_DETACH = 2;
const home = t.testdir({ tmpfs: {}, fuse: {}, file: 'passed on', other: '' });
const bytes = new Uint8Array(65536 + 4096);
const view = new DataView(bytes.buffer);
const needsRoot = process.getuid?.() === 0 ? {} : { skip: 'needs root' };
const needsFuse = fs.existsSync('/dev/fuse') ? needsRoot : { skip: 'needs /dev/fuse' };

function pair(): [number, number] {
  const ends = new Int32Array(2);
  if (native.socketPair(ends, 1) !== 0) throw new Error('no socket pair');
  return [ends[0] as number, ends[1] as number];
}
const closeAll = (fds: number[]): void => fds.forEach(fd => void native.close(fd));

t.test('mount, umount, openTree', needsRoot, async t => {
  const target = join(home, 'tmpfs');
  const outside = fs.statSync(target).dev;
  t.equal(native.mount('none', target, 'tmpfs', 0, 'mode=0710,unknown'), -EINVAL, 'an unknown option');
  t.equal(native.mount('none', target, 'no-such-type', 0, ''), -ENODEV, 'an unknown type');
  t.equal(native.mount('a source', target, 'tmpfs', 6, 'size=64k,nr_inodes=9,mode=0710'), 0, 'mounts');
  t.teardown(() => native.umount(target, MNT_DETACH));
  t.not(fs.statSync(target).dev, outside, 'it is there');
  t.equal(fs.statSync(target).mode & 0o7777, 0o710, 'with its options');
  const line = fs
    .readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .find(l => l.includes(` ${target} `));
  t.match(line, /nosuid,nodev.* - tmpfs a\\040source /, 'with its flags and its source');

  const fd = openOrThrow(target);
  const statfs = new Float64Array(10);
  native.fstatfs(fd, statfs);
  const s = fs.statfsSync(target);
  t.same(
    [...statfs.subarray(0, 7)],
    [s.type, s.bsize, s.blocks, s.bfree, s.bavail, s.files, s.ffree],
    'all of fstatfs',
  );
  native.close(fd);

  const huge = join(target, 'huge');
  for (const [rule, size, want] of [
    ['2^53 is a number', 2 ** 53, 2 ** 53],
    ['2^53 + 2 is refused: most of its neighbours are no numbers', 2 ** 53 + 2, -EOVERFLOW],
  ] as const) {
    python('import os, sys; os.truncate(os.open(sys.argv[1], 66), int(sys.argv[2]))', [huge, BigInt(size).toString()]);
    const hugeFd = openOrThrow(huge);
    t.equal(native.lseek(hugeFd, 0, 2), want, `lseek: ${rule}`);
    native.close(hugeFd);
  }
  fs.unlinkSync(huge);

  const clone = native.openTree(AT_FDCWD, target, 1);
  t.ok(clone > 0, 'openTree clones the mount');
  t.ok(closesOnExec(clone), 'close-on-exec');
  t.equal(native.umount(target, 0), 0, 'unmounts');
  t.equal(native.umount(target, 0), -EINVAL, 'no mount is left');
  t.equal(fs.statSync(target).dev, outside, 'the directory below is back');
  const inside = native.openat2(clone, '.', 0, 0);
  t.equal(fs.fstatSync(inside).mode & 0o7777, 0o710, 'the clone still leads to the tmpfs');
  closeAll([inside, clone]);
});

t.test('one write and one read a call', async t => {
  const [mine, theirs] = pair(); // what a /dev/fuse does with one message a call, a socket does here
  const ask = (text: string): number => native.fuseReply(theirs, Buffer.from(text), text.length);
  const got = (n: number): string => Buffer.from(bytes.subarray(0, Math.max(n, 0))).toString();

  t.equal(native.fuseReply(theirs, Buffer.from('request'), 3), 3, 'fuseReply: as many bytes as it is told');
  t.equal(got(native.fuseReceive(mine, bytes)), 'req', 'fuseReceive: what is there');
  ask('next');
  t.equal(got(native.fuseReplyReceive(mine, Buffer.from('answer'), 6, bytes)), 'next', 'fuseReplyReceive: reads');
  t.equal(got(native.fuseReceive(theirs, bytes)), 'answer', 'after it wrote');
  const readOnly = openOrThrow('/dev/null');
  t.equal(native.fuseReplyReceive(readOnly, bytes, 1, bytes), -EBADF - 4096, 'a failed write reads nothing');
  closeAll([mine, theirs, readOnly]);
});

/** struct fuse_out_header and struct fuse_init_out that accept passthrough. Source: linux/fuse.h of 7.40. */
function initReply(unique: bigint): Uint8Array {
  const reply = new DataView(new ArrayBuffer(80));
  reply.setUint32(0, 80, true); // len
  reply.setBigUint64(8, unique, true);
  reply.setUint32(16, 7, true); // major
  reply.setUint32(20, 40, true); // minor
  reply.setUint32(28, 2 ** 30, true); // flags: FUSE_INIT_EXT
  reply.setUint32(36, 65536, true); // max_write
  reply.setUint32(48, 1 << 5, true); // flags2: FUSE_PASSTHROUGH, bit 37
  reply.setUint32(52, 1, true); // max_stack_depth
  return new Uint8Array(reply.buffer);
}

t.test('/dev/fuse', needsFuse, async t => {
  const target = join(home, 'fuse');
  const fd = openOrThrow('/dev/fuse', fs.constants.O_RDWR);
  t.equal(native.fuseReceive(fd, bytes), -EPERM, 'nothing is mounted');
  const options = `fd=${fd},rootmode=40000,user_id=0,group_id=0`;
  t.equal(native.mount('test', target, 'fuse', 0, options), 0, 'mounts');
  t.teardown(() => native.umount(target, MNT_DETACH));

  const unknown = new Uint8Array(16);
  new DataView(unknown.buffer).setUint32(0, 16, true); // len
  unknown[8] = 99; // unique
  t.equal(native.fuseReply(fd, unknown, 16), -ENOENT, 'a reply to no request');
  t.equal(native.fuseReply(fd, unknown, 15), -EINVAL, 'a reply that is too short');
  t.equal(native.fuseReplyReceive(fd, unknown, 15, bytes), -EINVAL - 4096, 'the same; nothing is read');
  t.equal(native.fuseReceive(fd, bytes.subarray(0, 4096)), -EINVAL, 'a buffer that is too small for any request');

  const n = native.fuseReplyReceive(fd, unknown, 16, bytes);
  t.equal(n, view.getUint32(0, true), 'an interrupted request does not keep the next one away');
  t.equal(view.getUint32(4, true), 26, 'which is INIT');

  const file = openOrThrow(join(home, 'file'));
  const refused = [-EPERM, -ENOTTY]; // by this connection, by a kernel before 6.9
  t.ok(refused.includes(native.fuseBackingOpen(fd, file)), 'no passthrough before INIT is answered');
  t.equal(native.fuseReply(fd, initReply(view.getBigUint64(8, true)), 80), 80, 'answers INIT');
  const id = native.fuseBackingOpen(fd, file);
  if (refused.includes(id)) t.pass('passthrough', { skip: 'this kernel has no FUSE passthrough' });
  else {
    t.ok(id > 0, 'a backing id');
    t.equal(native.fuseBackingClose(fd, id), 0, 'is closed');
    t.equal(native.fuseBackingClose(fd, id), -ENOENT, 'is gone');
    t.equal(native.fuseBackingOpen(fd, -1), -EBADF, 'of no file');
  }

  t.equal(native.umount(target, 0), 0, 'unmounts');
  t.equal(native.fuseReceive(fd, bytes), -ENODEV, 'which ends the reading');
  closeAll([fd, file]);
});

t.test('execute becomes the program, in the same process', async t => {
  const url = JSON.stringify(new URL('../../src/sys/native.js', import.meta.url).href);
  const program = `
    const { native } = await import(${url});
    process.env.ADDED = 'to the environment';
    console.log(process.pid);
    native.replace(native.duplicate(1, 0), 1); // Node.js has marked it to be closed
    const words = ['name', '-c', 'echo $$ "$0" "$1" "$ADDED"', 'a word', '\\xff'].map(word => word + '\\0').join('');
    native.execute('/bin/sh', Buffer.from(words, 'latin1'));`;
  const args = ['--input-type=module', '-e', program];
  const { stdout } = spawnSync(process.execPath, args, { encoding: 'latin1', timeout: 20_000 });
  const [before, after] = stdout.split('\n');
  t.equal(after, `${before} a word \xff to the environment`);
  const many = Buffer.from('x\0'.repeat(4096));
  t.equal(native.execute('/bin/true', many), -E2BIG);
  t.equal(native.execute('/bin/true', many.subarray(0, 3)), -EINVAL, 'each word has an end');
});

t.test('exit ends a process whose thread blocks in a call', async t => {
  const url = JSON.stringify(new URL('../../src/sys/native.js', import.meta.url).href);
  const blocked = `
    import { parentPort, workerData } from 'node:worker_threads';
    const { native } = await import(${url});
    parentPort.postMessage('blocks');
    native.fuseReceive(workerData, new Uint8Array(16));`;
  const program = `
    import { Worker } from 'node:worker_threads';
    const { native } = await import(${url});
    const pair = new Int32Array(2);
    native.socketPair(pair, 1);
    process.on('exit', () => console.log('a handler ran'));
    new Worker(${JSON.stringify(blocked)}, { eval: true, workerData: pair[0] }).once('message', () => {
      setTimeout(() => native.exit(7), 50);
    });`;
  const child = spawnSync(process.execPath, ['--input-type=module', '-e', program], { timeout: 20_000 });
  t.equal(child.status, 7, 'with its status');
  t.equal(String(child.stdout) + String(child.stderr), '', 'and without a word');
});
