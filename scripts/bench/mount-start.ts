/**
 * Measures the cost of a mount before its first use: the time until the command returns and the root is listed, compared with an
 * empty program of Node.js, and then the memory and CPU time of the idle daemon.
 *
 *     npm run build && node dist/scripts/bench/mount-start.js [ROUNDS]
 *
 * Both programs are started in turn; the image has 10 MB. NODE_EXTRA_CA_CERTS is removed for both: reading certificates would
 * take Node.js longer than everything else, and lowerdata does not read them. Prints medians, and the median ratio to the empty
 * program in the same round. Memory and idle CPU time are those of the last mount after some seconds. JSON on standard output.
 * Needs root or fusermount3; takes half a minute.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { newInode } from '../../src/composefs/tree.ts';
import { writeImage } from '../../src/composefs/write.ts';

const IMAGE_BYTES = 10_000_000;
const IDLE_SECONDS = 5;
/** Clock ticks per second. Source: proc_pid_stat(5): fields 14 and 15 are in units of USER_HZ. */
const TICKS = 100;

const command = new URL('../../../bin/lowerdata', import.meta.url).pathname;
const env = { ...process.env };
delete env.NODE_EXTRA_CA_CERTS;

/** An image whose metadata alone has IMAGE_BYTES: directories of a thousand files each, with their data outside the image. */
function makeImage(): Uint8Array {
  for (let directories = 32; ; directories += 8) {
    const root = newInode(0o40755);
    for (let d = 0; d < directories; d++) {
      const directory = newInode(0o40755);
      root.entries.set(`directory-${d}`, { inode: directory, link: false });
      for (let f = 0; f < 1000; f++) {
        const inode = newInode(0o100644);
        inode.sizeBytes = 4096;
        inode.payload = `${d}/${f}`;
        directory.entries.set(`a-file-of-some-package-${f}`, { inode, link: false });
      }
    }
    const image = writeImage(root);
    if (image.length >= IMAGE_BYTES) return image;
  }
}

function milliseconds(program: string, ...args: string[]): number {
  const begin = performance.now();
  execFileSync(program, args, { env, stdio: 'ignore' });
  return performance.now() - begin;
}

/** Milliseconds until the command returned and the root was listed, and the process of the daemon. */
function mount(image: string, mnt: string): { took: number; pid: number } {
  const begin = performance.now();
  execFileSync(command, ['mount', image, mnt], { env, stdio: 'ignore' });
  readdirSync(mnt);
  const took = performance.now() - begin;
  const pid = readdirSync('/proc').find(name => /^\d+$/.test(name) && wordsOf(name).includes(mnt));
  return { took, pid: Number(pid) };
}

function wordsOf(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    return []; // the process has ended
  }
}

function processorSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' '); // starts with field 3
  return (Number(fields[14 - 3]) + Number(fields[15 - 3])) / TICKS;
}

function residentMiB(pid: number): number {
  const [, kibibytes] = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kibibytes) / 1024;
}

const median = (numbers: number[]): number => numbers.sort((a, b) => a - b)[numbers.length >> 1] as number;
const rounded = (number: number): number => Number(number.toFixed(2));

async function main(home: string, rounds: number): Promise<void> {
  const [image, mnt] = [join(home, 'image'), join(home, 'mnt')];
  mkdirSync(mnt);
  writeFileSync(image, makeImage());
  const found: { empty: number; mount: number }[] = [];
  let [idle, resident] = [0, 0];
  for (let round = 0; round <= rounds; round++) {
    const empty = milliseconds(process.execPath, '-e', '0');
    const { took, pid } = mount(image, mnt);
    if (round > 0) found.push({ empty, mount: took }); // the first round is a warm-up
    if (round === rounds) {
      await setTimeout(1000);
      const before = processorSeconds(pid);
      await setTimeout(IDLE_SECONDS * 1000);
      idle = processorSeconds(pid) - before;
      resident = residentMiB(pid);
    }
    execFileSync(command, ['umount', mnt]);
  }
  const result = {
    emptyMilliseconds: rounded(median(found.map(({ empty }) => empty))),
    mountMilliseconds: rounded(median(found.map(({ mount }) => mount))),
    ratio: rounded(median(found.map(({ empty, mount }) => mount / empty))),
    residentMiB: rounded(resident),
    idleProcessorPercent: rounded((idle / IDLE_SECONDS) * 100),
  };
  console.log(JSON.stringify({ bench: 'mount-start', rounds, processor: cpus()[0]?.model, ...result }, undefined, 2));
}

const home = mkdtempSync(join(tmpdir(), 'lowerdata-bench-'));
try {
  await main(home, Number(process.argv[2] ?? 15));
} finally {
  rmSync(home, { recursive: true });
}
