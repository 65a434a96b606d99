/** Where images may lead: through real mounts, with a trace of all that the daemon opens. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import * as f from '../../src/erofs/format.ts';
import { must } from '../../src/sys/errno.ts';
import { native } from '../../src/sys/native.ts';
import { craft, type Entry } from '../fixtures/images/craft.ts';
import { soon } from '../fixtures/mounts/foreground.ts';
import { directory, hole, mounted, regular } from '../fixtures/mounts/hostile-mount.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { without, withoutFuse } from '../fixtures/skips.ts';

/** Where metacopy files of an image may want to lead, and what opening them gives: the rules of openat2(2). */
const redirects: readonly (readonly [rule: string, redirect: string, want: string])[] = [
  ['an object', '/fine', 'fine'],
  ['two dots that stay inside', '/d/../fine', 'fine'],
  ['two dots', '/../outside/secret', 'EXDEV'],
  ['two dots after a directory', '/d/../../outside/secret', 'EXDEV'],
  ['two dots and back', '/../C/fine', 'EXDEV'],
  ['a symlink to the outside', '/secret', 'ENOENT'],
  ['a symlink to the outside on the way', '/up/secret', 'ELOOP'],
  ['a magic link on the way', '/root/etc/hostname', 'ELOOP'],
  ['below a mount point, where something else is mounted', '/mnt/secret', 'ENOENT'],
  ['/proc, mounted in the layer', '/proc/self/status', 'ENOENT'],
  ['a place on the host', '/etc/hostname', 'ENOENT'],
  ['a fifo', '/fifo', 'ENOENT'],
  ['a path of 4,095 bytes', `/${'d/../'.repeat(818)}fine`, 'fine'],
  ['a path of 4,100 bytes', `/${'d/../'.repeat(819)}fine`, 'ENAMETOOLONG'],
  ['a path of 60,000 bytes', `/${'d/../'.repeat(12_000)}fine`, 'ENAMETOOLONG'],
  ['a name of 256 bytes', `/${'n'.repeat(256)}`, 'ENAMETOOLONG'],
];

/** Opens everything, and looks at what the daemon opens for that. */
async function lookAround(t: Test, home: string, options: string): Promise<void> {
  const names = writeImage(join(home, 'image'));
  const opened = new Watch([join(home, 'outside', 'secret'), join(home, 'C', 'mnt', 'secret')]);
  await mounted(t, `${home}/image::${home}/C`, home, options, async (ask, root, { daemon }) => {
    const trace = await Trace.of(daemon.pid as number);
    for (const [i, [rule, , want]] of redirects.entries()) {
      t.equal(await ask('slurp', `${root}/${names[i]}`), want, rule);
      t.equal(await ask('slurp', `${root}/${names[0]}`), 'fine');
    }
    stayInside(t, await trace.end());
  });
  t.strictSame(await opened.end(), [], 'nothing outside was opened');
}

/** An image with a metacopy file for each redirect. @returns their names */
function writeImage(path: string): string[] {
  const metacopies = redirects.map(([, redirect]) =>
    regular({
      sizeBytes: 4,
      ...hole,
      xattrs: [
        [f.XATTR_INDEX_TRUSTED, 'overlay.metacopy', ''],
        [f.XATTR_INDEX_TRUSTED, 'overlay.redirect', redirect],
      ],
    }),
  );
  const entries = metacopies.map((_, i): Entry => [`f${String(i).padStart(2, '0')}`, i + 1, f.FT_REG_FILE]);
  writeFileSync(path, craft({ blockBits: 16, inodes: [{ ...directory([]), entries }, ...metacopies] }));
  return entries.map(([name]) => name);
}

/** A data-only layer C, with all that could lead out of it to a secret. */
function plantLayer(home: string): void {
  const layer = join(home, 'C');
  for (const path of ['outside', 'C', 'C/d', 'C/mnt', 'C/proc']) mkdirSync(join(home, path));
  writeFileSync(join(home, 'outside', 'secret'), 'secret');
  writeFileSync(join(layer, 'fine'), 'fine');
  symlinkSync('../outside/secret', join(layer, 'secret'));
  symlinkSync('../outside', join(layer, 'up'));
  symlinkSync('/proc/self/root', join(layer, 'root'));
  execFileSync('mkfifo', [join(layer, 'fifo')]);
  must(native.mount('none', join(layer, 'mnt'), 'tmpfs', 0, ''), 'mount -t tmpfs');
  must(native.mount('none', join(layer, 'proc'), 'proc', 0, ''), 'mount -t proc');
  writeFileSync(join(layer, 'mnt', 'secret'), 'secret');
}

/** How openat2(2) is to be told that nothing may lead out of a directory, as strace(1) prints it. */
const CONFINED = /resolve=RESOLVE_NO_XDEV\|RESOLVE_NO_MAGICLINKS\|RESOLVE_NO_SYMLINKS\|RESOLVE_BENEATH\}/;
/** What was reached so may be opened again by its number in /proc/self/fd, which is open itself. */
const DESCRIPTORS = /^openat2\(AT_FDCWD[^,]*, "\/proc\/self\/fd", \{flags=\S*O_PATH\|O_DIRECTORY\S*, .*\) = (\d+)$/;

/** Whether a call opens that directory, or what is open by its number in it. */
function isAgain(call: string, calls: readonly string[]): boolean {
  const [, descriptors] = calls.map(each => DESCRIPTORS.exec(each)).find(match => match !== null) ?? [];
  const [, from, name] = /^openat2\((\d+), "([^"]*)", /.exec(call) ?? [];
  return DESCRIPTORS.test(call) || (from !== undefined && from === descriptors && /^\d+$/.test(name as string));
}

/** Every path that was opened, by a thread of the daemon, was reached from a directory and could not lead out of it. */
function stayInside(t: Test, calls: readonly string[]): void {
  const reached = calls.filter(call => CONFINED.test(call));
  t.ok(
    reached.length >= redirects.filter(([, { length }]) => length < 4096).length,
    `${reached.length} paths were opened in layers`,
  );
  t.strictSame(
    calls.filter(call => !isAgain(call, calls) && !(CONFINED.test(call) && /^openat2\(\d/.test(call))),
    [],
    'and no other way',
  );
}

/** What strace(1) sees a process open, or run. */
class Trace {
  private readonly strace: ChildProcess;
  private said = '';

  private constructor(pid: number) {
    const calls = 'trace=open,openat,openat2,open_by_handle_at,open_tree,creat,execve,mount';
    this.strace = spawn('strace', ['-f', '-s', '200', '-e', calls, '-p', String(pid)], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.strace.stderr?.setEncoding('utf8').on('data', piece => {
      this.said += piece;
    });
  }

  static async of(pid: number): Promise<Trace> {
    const trace = new Trace(pid);
    if (!(await soon(() => /attached/.test(trace.said)))) throw new Error(`strace: ${trace.said}`);
    return trace;
  }

  async end(): Promise<string[]> {
    const closed = once(this.strace, 'close');
    this.strace.kill('SIGINT');
    await closed;
    const lines = this.said.split('\n').map(line => line.replace(/^\[pid +\d+\] /, ''));
    return lines.filter(line => /^(open|creat|execve|mount)/.test(line));
  }
}

/** Files that nobody is to open. Source: inotify(7). */
class Watch {
  private readonly python: ChildProcess;
  private said = '';

  constructor(paths: readonly string[]) {
    this.python = spawn('python3', ['-c', watcher, ...paths], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.python.stdout?.setEncoding('utf8').on('data', piece => {
      this.said += piece;
    });
  }

  /** The paths that were opened, by anybody. The last one is opened here, to see that it is noticed. */
  async end(): Promise<string[]> {
    const closed = once(this.python, 'close');
    this.python.stdin?.end();
    await closed;
    const [ready, ...opened] = this.said.trim().split('\n');
    if (ready !== 'ready' || opened.pop() !== 'tried') throw new Error(`nothing was watched: ${this.said}`);
    return opened;
  }
}

const watcher = `
import ctypes, os, select, sys
libc = ctypes.CDLL(None)
fd = libc.inotify_init1(os.O_NONBLOCK)
paths = {libc.inotify_add_watch(fd, os.fsencode(path), 0x21): path for path in sys.argv[1:]}
print('ready', flush=True)
sys.stdin.read()
def events():
    if not select.select([fd], [], [], 0)[0]: return []
    data = os.read(fd, 65536)
    return [int.from_bytes(data[at:at + 4], 'little') for at in range(0, len(data), 16)]
for event in events(): print(paths[event])
open(sys.argv[1]).close()
print('tried' if events() else 'blind')
`;

for (const [who, options] of [
  ['root', ''],
  ['root, in data-only layers alone', 'redirects=data-only'],
  ['root, by the rules of the kernel', 'redirects=kernel,semantics=kernel'],
] as const) {
  t.test(`redirects out of a layer: ${who}`, { skip: withoutFuse || without('strace'), timeout: 60_000 }, t =>
    withScratchAsync(async home => {
      try {
        plantLayer(home);
        await lookAround(t, home, options);
      } finally {
        for (const at of ['mnt', 'proc']) native.umount(join(home, 'C', at), 0);
      }
    }),
  );
}
t.end();
