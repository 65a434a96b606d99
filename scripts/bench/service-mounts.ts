/**
 * Measures what mounts of the service cost: 1, 10, 100 and 1,000 images of 1.3 MB, and 1,000 mounts of one of them; then how long
 * users wait when the server of all is killed.
 *
 *     npm run build && node dist/scripts/bench/service-mounts.js
 *
 * `milliseconds` is the median from the request to a mount that can be attached, in the process of the service, without a client's
 * message. `serverMB` and `brokerMB` are resident. Each mount is attached and read once. JSON on standard output. Needs root; takes
 * a minute, and 1.5 GB in the directory for temporary files.
 */
import { execFile } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { newInode } from '../../src/composefs/tree.ts';
import { writeImage } from '../../src/composefs/write.ts';
import { Mounts, type Superblock } from '../../src/service/broker/mounts.ts';
import { ServerGroup } from '../../src/service/broker/server-group.ts';
import { byteStringFromText } from '../../src/sys/bytes.ts';
import { must } from '../../src/sys/errno.ts';
import { native } from '../../src/sys/native.ts';
import { Readiness } from '../../src/sys/sockets/readiness.ts';

const FILES = 12_000;
const COUNTS = [1, 10, 100, 1000];
const O_PATH = 0o10000000;
const AT_FDCWD = -100;
const MOVE_MOUNT_F_EMPTY_PATH = 4;
const MNT_DETACH = 2;
const run = promisify(execFile);

const home = mkdtempSync(join(tmpdir(), 'lowerdata-bench-'));
const at = (...names: string[]): string => join(home, ...names);
for (const name of ['objects', 'images', 'mnt']) mkdirSync(at(name));

function makeImage(): Uint8Array {
  const root = newInode(0o40755);
  for (let i = 0; i < FILES; i++) {
    const inode = newInode(0o100644);
    inode.sizeBytes = 4096;
    inode.payload = `${i}`;
    root.entries.set(`a-file-of-some-package-${i}`, { inode, link: false });
  }
  return writeImage(root);
}
writeFileSync(at('images', '0'), makeImage());

const open = (path: string, flags: number): number =>
  must(native.openat2(AT_FDCWD, byteStringFromText(path), flags, 0), path);
const begin = { kind: 'begin', mayPassThrough: true } as const;
const objects = [open(at('objects'), O_PATH)];
const readiness = new Readiness();
const log = (): void => {};
const group = new ServerGroup(readiness, { name: 'bench', uid: 0, gid: 0, staysWarm: true, begin, objects }, log);
const mounts = new Mounts(log);
const times: number[] = [];
let made = 0;

/** Mounts an image, attaches the mount, and lists it in another process. */
async function mount(image: number): Promise<Superblock> {
  const fd = open(at('images', String(image)), 0);
  const start = performance.now();
  const own = { digest: undefined, verity: 'require', group } as const;
  const mounted = await mounts.mount({ fd, shown: `image ${image}`, ...own }, 0, undefined);
  times.push(performance.now() - start);
  const place = at('mnt', String(made++));
  mkdirSync(place);
  must(native.moveMount(mounted.fd, '', AT_FDCWD, byteStringFromText(place), MOVE_MOUNT_F_EMPTY_PATH), place);
  native.close(mounted.fd);
  return mounted.superblock;
}

const residentMB = (pid: number): number =>
  Math.round(Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) / 102.4) / 10;
const median = (all: number[]): number =>
  Number((all.sort((a, b) => a - b)[Math.floor(all.length / 2)] as number).toFixed(2));
const list = (): Promise<unknown> =>
  run('sh', ['-c', 'for m in "$0"/*; do stat "$m"/a-file-of-some-package-9 >/dev/null; done', at('mnt')]);

const rows: object[] = [];
async function report(what: string, pid: number): Promise<void> {
  await list();
  await sleep(500);
  rows.push({
    what,
    milliseconds: median(times.splice(0)),
    serverMB: residentMB(pid),
    brokerMB: residentMB(process.pid),
  });
}

group.warm();
readiness.run();
await sleep(1000);
const first = await mount(0);
await report('1 image', first.pid ?? 0);
for (const count of COUNTS.slice(1)) {
  for (let image = mounts.list().length; image < count; image++) {
    copyFileSync(at('images', '0'), at('images', String(image)));
    await mount(image);
  }
  await report(`${count} images`, first.pid ?? 0);
}
for (let i = 0; i < 1000; i++) await mount(0);
await report('1,000 more mounts of one of them', first.pid ?? 0);
const start = performance.now();
process.kill(first.pid ?? 0, 'SIGKILL');
await run('cat', ['/dev/null']).then(() => run('ls', [at('mnt', '0')]));
const waited = Math.round(performance.now() - start);
process.stdout.write(
  `${JSON.stringify({ imageBytes: readFileSync(at('images', '0')).length, rows, killedMs: waited }, null, 2)}\n`,
);
for (let i = 0; i < made; i++) native.umount(byteStringFromText(at('mnt', String(i))), MNT_DETACH);
rmSync(home, { recursive: true });
process.exit(0);
