/** What programs do with a mount: mmap, execute, sparse files past 4 GiB, strange names, large directories, many readers. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  cpSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { withMount } from '../fixtures/mounts/mounted.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse } from '../fixtures/skips.ts';

/** Seconds that the walkers walk. `LOWERDATA_WALK_SECONDS=60` for a longer look. */
const WALK_SECONDS = Number(process.env.LOWERDATA_WALK_SECONDS ?? '8');
const WARM_UP_SECONDS = 5;
/** Long enough for garbage to be collected. */
const FLOOR_SECONDS = 4;
const WALKERS = 32;
const MANY = 100_000;
const FAR = 5 * 2 ** 30;

const mapped = `
import mmap, sys
with open(sys.argv[1], 'rb') as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
    sys.stdout.write(m[:5].decode() + str(len(m)))
`;
/** Walks the tree until the time is over and prints how many objects it saw. */
const walker = `
import os, sys, time
end, seen = time.time() + float(sys.argv[2]), 0
while time.time() < end:
    for directory, directories, files in os.walk(sys.argv[1], onerror=lambda error: sys.exit(str(error))):
        for name in files:
            with open(os.path.join(directory, name), 'rb') as f:
                f.read(100)
            seen += 1
print(seen)
`;

for (const passthrough of ['auto', 'off']) {
  t.test(`passthrough=${passthrough}`, { skip: withoutFuse, timeout: 300_000 }, t =>
    withScratchAsync(async scratch => {
      const [a, b] = [join(scratch, 'A'), join(scratch, 'B')];
      for (const directory of [a, b]) mkdirSync(directory);
      prepare(a, b);
      await withMount([`${a}:${b}`, '-o', `passthrough=${passthrough}`], async root => {
        t.equal(execFileSync('python3', ['-c', mapped, join(root, 'text')], { encoding: 'utf8' }), 'hello5', 'mmap');
        t.equal(execFileSync(join(root, 'program'), ['ran'], { encoding: 'utf8' }), 'ran\n', 'execve');
        readsFar(t, join(root, 'sparse'));
        const names = readdirSync(join(root, 'names'), { encoding: 'latin1' }).sort();
        t.strictSame(names, readdirSync(join(b, 'names'), { encoding: 'latin1' }).sort(), 'names of arbitrary bytes');
        t.equal(readdirSync(join(root, 'many')).length, MANY, 'a directory of 100,000 entries');
      });
    }),
  );
}

function prepare(a: string, b: string): void {
  writeFileSync(join(a, 'text'), 'hello');
  cpSync('/bin/echo', join(b, 'program'));
  chmodSync(join(b, 'program'), 0o755);
  const sparse = openSync(join(b, 'sparse'), 'w');
  ftruncateSync(sparse, FAR + 4);
  writeSync(sparse, 'end!', FAR);
  closeSync(sparse);
  mkdirSync(join(b, 'names'));
  for (let byte = 1; byte < 256; byte++) {
    if (byte !== 0x2f) writeFileSync(Buffer.concat([Buffer.from(join(b, 'names/')), Buffer.alloc(255, byte)]), '');
  }
  mkdirSync(join(b, 'many'));
  for (let i = 0; i < MANY; i++) writeFileSync(join(b, 'many', `entry-${i}`), '');
}

function readsFar(t: Test, path: string): void {
  const python = `
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
print(os.fstat(fd).st_size, os.pread(fd, 9, ${FAR}), os.pread(fd, 3, ${2 ** 32}), os.lseek(fd, 0, os.SEEK_DATA))
`;
  const shown = execFileSync('python3', ['-c', python, path], { encoding: 'utf8' });
  t.equal(shown, `${FAR + 4} b'end!' b'\\x00\\x00\\x00' ${FAR}\n`, 'a sparse file past 4 GiB');
}

t.test(`${WALKERS} processes at once`, { skip: withoutFuse, timeout: 600_000 }, t =>
  withScratchAsync(async scratch => {
    const [a, b] = [join(scratch, 'A'), join(scratch, 'B')];
    for (const layer of [a, b]) {
      for (let i = 0; i < 40; i++) {
        mkdirSync(join(layer, `d${i}/e`), { recursive: true });
        for (let j = 0; j < 20; j++) writeFileSync(join(layer, `d${i}/e/f${j}-${layer.at(-1)}`), 'x'.repeat(j));
      }
    }
    await withMount([`${a}:${b}`], async root => {
      const daemon = daemonOf(root);
      t.equal(await walk(root, 1, 0.1), 1600, 'one pass sees every file');
      await walk(root, WALKERS, WARM_UP_SECONDS);
      const before = await floorDuring(daemon, walk(root, WALKERS, FLOOR_SECONDS));
      const seen = await walk(root, WALKERS, WALK_SECONDS);
      t.ok(seen > 1600, `${seen} files read in ${WALK_SECONDS} s without an error`);
      const after = await floorDuring(daemon, walk(root, WALKERS, FLOOR_SECONDS));
      const growth = after - before;
      t.ok(growth < 40 * 2 ** 20, `grew by ${Math.round(growth / 2 ** 20)} MiB`);
    });
  }),
);

/** Runs walkers; throws where one saw an error. @returns the most files that one of them saw */
async function walk(root: string, count: number, seconds: number): Promise<number> {
  const walks = Array.from({ length: count }, async () => {
    const child = spawn('python3', ['-c', walker, root, String(seconds)], { stdio: ['ignore', 'pipe', 'inherit'] });
    let output = '';
    child.stdout.on('data', piece => {
      output += piece;
    });
    const [status] = await once(child, 'close');
    if (status !== 0) throw new Error(`a walker failed: ${status}`);
    return Number(output);
  });
  return Math.max(...(await Promise.all(walks)));
}

/** The process that serves a mount, found by the arguments that it shows. */
function daemonOf(root: string): number {
  for (const pid of readdirSync('/proc').filter(name => /^\d+$/.test(name))) {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
      if (words.includes('--daemon') && words.includes(root)) return Number(pid);
    } catch {} // it has ended
  }
  throw new Error(`nobody serves ${root}`);
}

/** The least memory that a process has while something goes on: what garbage there is comes and goes on top of it. */
async function floorDuring(pid: number, work: Promise<unknown>): Promise<number> {
  let floor = residentBytes(pid);
  const timer = setInterval(() => {
    floor = Math.min(floor, residentBytes(pid));
  }, 100);
  await work;
  clearInterval(timer);
  return floor;
}

function residentBytes(pid: number): number {
  const [, kib = '0'] = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kib) * 1024;
}
