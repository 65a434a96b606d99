/**
 * Stresses one mount for a long time: 16 processes walk it, read, map and run its files, look up missing names, and open objects
 * that change meanwhile. Every read is checked (verify=read).
 *
 *     npm run build && node dist/scripts/long-run.js --minutes 30
 *
 * Prints a line per minute and a verdict. The exit status is 1 if an invariant broke: a wrong byte, an error other than EIO of a
 * changed object, a log line that no change explains, memory that grows in the second half, or a mount that does not end. Needs
 * root and python3.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';

const BLOCK = 4096;
const DIRECTORIES = 40;
const FILES = 25;
const SIZES = [50, 3000, 20_000, 150_000, 400_000];
const CHANGED = [9000, 30_000, 200_000, 500_000];
/** Numbers of processes by their work. */
const USERS = { walk: 4, read: 5, map_file: 3, execute: 1, miss: 1, changed: 2 } as const;
const CHANGE_MS = 40;
const SAMPLE_MS = 200;
/** Tolerated growth, because garbage collection varies by as much. */
const GROWTH_MAX = 40 * 2 ** 20;

const command = new URL('../src/cli/main.js', import.meta.url).pathname;
const user = new URL('../../scripts/long-run.py', import.meta.url).pathname;
const lowerdata = (...args: string[]): string =>
  execFileSync(process.execPath, [command, ...args], { encoding: 'utf8' });

/** The content that long-run.py expects in a file of this name. */
function contentOf(name: string, size: number): Buffer {
  const blocks = Array.from({ length: Math.ceil(size / BLOCK) }, (_, i) =>
    Buffer.alloc(BLOCK, createHash('sha256').update(`${name}:${i}`).digest()),
  );
  return Buffer.concat(blocks).subarray(0, size);
}

/** Writes a tree, and makes an image of it with its objects. */
function prepare(home: string): void {
  const tree = join(home, 'tree');
  mkdirSync(join(tree, 'changed'), { recursive: true });
  for (const [i, size] of CHANGED.entries()) writeFileSync(join(tree, 'changed', `c${i}`), contentOf(`c${i}`, size));
  for (let d = 0; d < DIRECTORIES; d++) {
    mkdirSync(join(tree, `d${d}`));
    for (let i = 0; i < FILES; i++) {
      const name = `f${d}-${i}`;
      writeFileSync(join(tree, `d${d}`, name), contentOf(name, SIZES[i % SIZES.length] as number));
    }
  }
  copyFileSync('/bin/echo', join(tree, 'program'));
  lowerdata('mkfs', `--digest-store=${home}/objects`, tree, join(home, 'image'));
  mkdirSync(join(home, 'mnt'));
}

/** Corrupts and repairs objects in turn until it is stopped. */
class Changer {
  /** The path of each object, and the file name that determines its content. */
  private readonly objects: readonly { readonly path: string; readonly name: string }[];
  private readonly timer: NodeJS.Timeout;
  changes = 0;

  constructor(home: string) {
    this.objects = CHANGED.map((_, i) => {
      const name = `c${i}`;
      const digest = lowerdata('info', 'measure-file', join(home, 'tree', 'changed', name)).trim();
      return { name, path: join(home, 'objects', digest.slice(0, 2), digest.slice(2)) };
    });
    this.timer = setInterval(() => this.change(), CHANGE_MS);
  }

  /** Writes the first byte of the second block of one object, alternately wrong and right. */
  private change(): void {
    const turn = this.changes++;
    const { path, name } = this.objects[turn % this.objects.length] as { path: string; name: string };
    const isWrong = Math.floor(turn / this.objects.length) % 2 === 0;
    const [right = 0] = contentOf(name, 2 * BLOCK).subarray(BLOCK);
    const fd = openSync(path, 'r+');
    writeSync(fd, Buffer.of(isWrong ? right ^ 0xff : right), 0, 1, BLOCK);
    closeSync(fd);
  }

  stop(): void {
    clearInterval(this.timer);
  }
}

/** One process that uses the mount. */
class User {
  readonly work: string;
  count = 0;
  broken = '';
  private readonly child: ChildProcess;
  private readonly exit: Promise<unknown[]>;

  constructor(work: string, top: string, seed: number) {
    this.work = work;
    this.child = spawn('python3', [user, work, top, String(seed)], { cwd: '/', stdio: ['pipe', 'pipe', 'inherit'] });
    this.exit = once(this.child, 'exit');
    createInterface({ input: this.child.stdout as NodeJS.ReadableStream }).on('line', line => {
      if (line.startsWith('BROKEN')) this.broken = line;
      else this.count = Number(line);
    });
    this.child.stdin?.on('error', () => {}); // the process may have ended early
  }

  async stop(): Promise<void> {
    this.child.stdin?.end();
    const [status] = await this.exit;
    if (status !== 0 && !this.broken) this.broken = `BROKEN ${this.work}: exit status ${status}`;
  }
}

/** The daemon, in the foreground. */
class Daemon {
  readonly child: ChildProcess;
  /** Log lines that no change of an object explains. */
  readonly strange: string[] = [];
  private ready = false;

  constructor(home: string, top: string) {
    const args = [command, 'mount', '-v', `${home}/image::${home}/objects`, top, '-f', '-o', 'verify=read'];
    this.child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    createInterface({ input: this.child.stderr as NodeJS.ReadableStream }).on('line', line => {
      if (/: metadata /.test(line)) this.ready = true;
      else if (!/^lowerdata: (OPEN|READ)( nodeid \d+)?: EIO: EWRONGVERITY: layer \S+objects: /.test(line))
        this.strange.push(line);
    });
  }

  async begin(): Promise<void> {
    while (!this.ready && this.child.exitCode === null) await sleep(20);
    if (!this.ready) throw new Error(`no mount: ${this.strange.join('; ')}`);
  }

  get residentBytes(): number {
    return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${this.child.pid}/status`, 'latin1'))?.[1] ?? 0) * 1024;
  }

  get descriptors(): number {
    return readdirSync(`/proc/${this.child.pid}/fd`).length;
  }

  /** @returns the exit status, the signal that ended it, or a text if it still runs after 10 s */
  async end(): Promise<number | string> {
    this.child.kill('SIGTERM');
    if (this.child.exitCode === null) await Promise.race([once(this.child, 'exit'), sleep(10_000)]);
    const { exitCode, signalCode } = this.child;
    return exitCode ?? signalCode ?? 'it goes on for 10 s';
  }
}

const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(0)} MiB`;

/** Takes samples while all processes work. @returns the lowest resident memory in each tenth of the time */
async function watch(daemon: Daemon, users: readonly User[], changer: Changer, seconds: number): Promise<number[]> {
  const floors: number[] = [];
  const start = Date.now();
  let told = start;
  for (let at = 0; at < seconds * 1000; at = Date.now() - start) {
    await sleep(SAMPLE_MS);
    if (daemon.child.exitCode !== null || users.some(({ broken }) => broken)) break;
    const part = Math.min(9, Math.floor(((Date.now() - start) / seconds / 1000) * 10));
    floors[part] = Math.min(floors[part] ?? Number.POSITIVE_INFINITY, daemon.residentBytes);
    if (Date.now() - told < 60_000) continue;
    told = Date.now();
    const counts = Object.keys(USERS).map(work => `${work} ${sum(users.filter(one => one.work === work))}`);
    const minute = Math.round((told - start) / 60_000);
    const held = `${mebibytes(floors[part] as number)}, ${daemon.descriptors} descriptors`;
    console.log(`minute ${minute}: ${counts.join(', ')}, ${changer.changes} changes; ${held}`);
  }
  return floors.filter(floor => floor !== undefined);
}

const sum = (users: readonly User[]): number => users.reduce((total, { count }) => total + count, 0);

/** Runs everything. @returns the invariants that broke; empty if all held */
async function run(home: string, seconds: number): Promise<string[]> {
  const top = join(home, 'mnt');
  const daemon = new Daemon(home, top);
  await daemon.begin();
  const works = Object.entries(USERS).flatMap(([work, count]) => Array.from({ length: count }, () => work));
  const users = works.map((work, seed) => new User(work, top, seed));
  const changer = new Changer(home);
  const floors = await watch(daemon, users, changer, seconds);
  changer.stop();
  await Promise.all(users.map(one => one.stop()));
  const broken = users.map(one => one.broken).filter(Boolean);
  for (const one of users) if (one.count === 0) broken.push(`BROKEN ${one.work}: never done`);
  const [warm = 0, last = 0] = [floors[4], floors.at(-1)]; // the first half is the warm-up
  if (last - warm > GROWTH_MAX)
    broken.push(`BROKEN memory: ${mebibytes(warm)} after the warm-up, ${mebibytes(last)} in the end`);
  const status = await daemon.end();
  if (status !== 0) broken.push(`BROKEN the daemon's end: ${status}`);
  broken.push(...daemon.strange.map(line => `BROKEN the log: ${line}`));
  console.log(
    `${sum(users)} turns of ${users.length} processes in ${seconds} s, ${changer.changes} changes of objects`,
  );
  console.log(`memory ${floors.map(mebibytes).join(', ')}`);
  return broken;
}

async function main(minutes: number): Promise<number> {
  if (!(minutes > 0)) {
    console.error(`usage: ${basename(import.meta.url)} --minutes NUMBER`);
    return 2;
  }
  const home = mkdtempSync(join(tmpdir(), 'lowerdata-long-run-'));
  try {
    prepare(home);
    const broken = await run(home, minutes * 60);
    for (const line of broken) console.log(line);
    console.log(broken.length === 0 ? 'all was as it must be' : `${broken.length} invariants broke`);
    return broken.length === 0 ? 0 : 1;
  } finally {
    execFileSync('sh', ['-c', 'umount -l "$0" 2>/dev/null || :', join(home, 'mnt')]); // cleans up after a broken run
    rmSync(home, { recursive: true });
  }
}

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '30' } } });
process.exitCode = await main(Number(values.minutes));
