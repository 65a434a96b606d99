/**
 * A layer in which one user renames, exchanges, replaces and links files and directories, and root's own among them, while root
 * mounts on them and another user reads through the mount: `LOWERDATA_HAMMER=60` for as many seconds.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { readMounts } from '../../src/fuse/mountinfo.ts';
import { byteStringFromText } from '../../src/sys/bytes.ts';
import { native } from '../../src/sys/native.ts';
import { command, packageFolder } from '../fixtures/mounts/mounted.ts';
import { python } from '../fixtures/native.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse } from '../fixtures/skips.ts';

const WRITER = 65534;
const READER = 65533;
const MS_BIND = 4096;
const MNT_DETACH = 2;
const SECONDS = Number(process.env.LOWERDATA_HAMMER ?? 9);
const program = join(packageFolder, 'test', 'fixtures', 'mounts', 'hammer.py');

/** Files that never change, and what is root's alone, under names that the owner of the directory may rename. */
function plant(d: string): void {
  const content = (number: number): string => {
    const lines = (number % 50) + 1;
    return `${lines} lines\n${`public ${number}\n`.repeat(lines)}`;
  };
  mkdirSync(join(d, 'stable'));
  for (let i = 0; i < 20; i++) writeFileSync(join(d, 'stable', `s${i}`), content(i));
  mkdirSync(join(d, 'open'));
  writeFileSync(join(d, 'open', 'f'), content(3));
  mkdirSync(join(d, 'closed'), { mode: 0o700 });
  for (const name of ['name-of-root', 'f']) writeFileSync(join(d, 'closed', name), 'secret\n');
  for (const name of ['root1', 'root2']) {
    writeFileSync(join(d, name), 'secret\n'.repeat(1000), { mode: 0o600 });
    python("import os, sys; os.setxattr(sys.argv[1], 'user.note', b'secret')", [join(d, name)]);
  }
}

/** A process that goes on until it is told to stop, and what it has printed then. */
class Worker {
  private readonly child: ChildProcess;
  private printed = '';

  constructor(id: number, ...args: string[]) {
    this.child = spawn('python3', [program, ...args], { uid: id, gid: id, cwd: '/', stdio: ['pipe', 'pipe', 'pipe'] });
    for (const stream of [this.child.stdout, this.child.stderr])
      stream?.setEncoding('utf8').on('data', piece => {
        this.printed += piece;
      });
  }

  async stop(): Promise<string> {
    const ended = new Promise(resolve => this.child.once('close', resolve));
    this.child.stdin?.end('\n');
    const isDone = this.child.exitCode !== null;
    await Promise.race([isDone ? sleep(100) : ended, sleep(20_000).then(() => this.child.kill('SIGKILL'))]);
    return this.printed.trim();
  }
}

/** Mounts something on names of the layer, now and then, and takes it away again. */
async function mountOnNames(d: string, until: number): Promise<number> {
  let made = 0;
  for (let i = 0; Date.now() < until; i++, await sleep(37)) {
    const name = byteStringFromText(join(d, i % 2 === 0 ? 'open' : `n${i % 12}`));
    const what = byteStringFromText(i % 2 === 0 ? join(d, 'closed') : join(d, 'root1'));
    if (native.mount(what, name, '', MS_BIND, '') === 0) made++;
    await sleep(5);
    native.umount(name, MNT_DETACH);
  }
  return made;
}

const WAYS = ['', 'attr_timeout=0', 'timeout=0,negative_timeout=0'];
for (const options of WAYS)
  t.test(options || 'by default', { skip: withoutFuse, timeout: SECONDS * 1000 + 120_000 }, async t => {
    await withScratchAsync(async home => {
      chmodSync(home, 0o777);
      for (const name of ['D', 'E', 'M']) mkdirSync(join(home, name));
      const d = join(home, 'D');
      plant(d);
      chownSync(d, WRITER, WRITER);
      const m = join(home, 'M');
      command('mount', `${d}:${home}/E`, m, '-o', `allow_other${options && `,${options}`}`);
      try {
        const writer = new Worker(WRITER, 'write', d, '1');
        const readers = [2, 3, 4].map(seed => new Worker(READER, 'read', m, d, String(seed)));
        const mounts = await mountOnNames(d, Date.now() + (SECONDS / WAYS.length) * 1000);
        for (const reader of readers) {
          const printed = await reader.stop();
          t.match(printed, /^[1-9]\d* \{.*\}$/, `a reader saw nothing that it must not: ${printed}`);
        }
        const printed = await writer.stop();
        t.match(printed, /^[1-9]\d* \{.*\}$/, `a writer: ${printed}; ${mounts} mounts`);
      } finally {
        for (const { path } of readMounts().reverse())
          if (path.startsWith(byteStringFromText(`${d}/`))) native.umount(path, MNT_DETACH);
        command('umount', m);
      }
    });
  });
t.end();
