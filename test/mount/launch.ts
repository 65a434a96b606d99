/** Starting the command as it is installed, through bin/lowerdata: who waits for whom, and what becomes of descriptors. */
import { spawn, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { mountAt, readMounts } from '../../src/fuse/mountinfo.ts';
import { byteStringFromText } from '../../src/sys/bytes.ts';
import { native } from '../../src/sys/native.ts';
import { soon } from '../fixtures/mounts/foreground.ts';
import { lowerdata, packageFolder } from '../fixtures/mounts/mounted.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { without, withoutFuse } from '../fixtures/skips.ts';

const MNT_DETACH = 2;
const launcher = join(packageFolder, 'bin', 'lowerdata');

interface Place {
  readonly mnt: string;
  /** Runs a line of sh in a directory with the layers A and B; $0 is bin/lowerdata, $1 the command for `node`. */
  sh(line: string, env?: Record<string, string>): { status: number | null; stdout: string; stderr: string };
}

const isMounted = (mnt: string): boolean => mountAt(readMounts(), byteStringFromText(mnt)) !== undefined;

function placed(rule: string, use: (t: Test, place: Place) => Promise<void>, missing: string | false = false): void {
  t.test(rule, { skip: withoutFuse || missing }, t =>
    withScratchAsync(async directory => {
      for (const name of ['A', 'B', 'mnt']) mkdirSync(join(directory, name));
      writeFileSync(join(directory, 'A', 'a'), 'A\n');
      const mnt = join(directory, 'mnt');
      const sh: Place['sh'] = (line, env = {}) => {
        const options = {
          cwd: directory,
          env: { ...process.env, ...env },
          encoding: 'latin1',
          timeout: 20_000,
        } as const;
        const { status, stdout, stderr } = spawnSync('/bin/sh', ['-c', line, launcher, lowerdata], options);
        return { status, stdout: stdout.trim(), stderr: stderr.trim() };
      };
      try {
        await use(t, { mnt, sh });
      } finally {
        while (isMounted(mnt)) native.umount(byteStringFromText(mnt), MNT_DETACH);
      }
    }),
  );
}

/** The processes whose arguments name a directory. */
const processesAt = (mnt: string): string[] =>
  readdirSync('/proc').filter(name => /^\d+$/.test(name) && argumentsOf(name).includes(mnt));

function argumentsOf(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    return []; // it has ended
  }
}

placed('a mount in the background', async (t, { mnt, sh }) => {
  const { status } = sh(`exec 5>lock 9>lock; "$0" mount A:B ${mnt} 2>/dev/null`);
  t.equal(status, 0);
  t.same(readdirSync(mnt), ['a']);
  const [daemon, ...others] = processesAt(mnt);
  t.same(others, [], 'one process serves it, and none waits');
  const open = readdirSync(`/proc/${daemon}/fd`).map(fd => readlinkSync(`/proc/${daemon}/fd/${fd}`));
  t.equal(open.filter(file => file.endsWith('/lock')).length, 0, 'nothing of the caller is kept open');
  for (const fd of [0, 1]) t.equal(readlinkSync(`/proc/${daemon}/fd/${fd}`), '/dev/null');
  t.equal(sh(`"$0" umount ${mnt}`).status, 0);
});

for (const [rule, line] of [
  ['an option that looks like one for the foreground', '"$0" mount A:B mnt -o fsname=debug'],
  ['a source and a mount point alone', '"$0" ./A:B mnt'],
  ['words that might be a command', 'cp -r A image.d; "$0" image.d mnt'],
  ['the compiled file, run by node', 'node "$1" mount A:B mnt'],
  ['a symlink to the launcher', 'ln -s "$0" mount.lowerdata; PATH=$PWD:$PATH; mount.lowerdata A:B mnt -o rw'],
  ['called as another name', '"$0" --called mount.lowerdata A:B mnt'],
  [
    'names of any bytes',
    'd=$(printf "\\377d"); cp -r A "$d"; "$0" mount "$d" mnt; "$0" umount mnt; node "$1" mount "$d" mnt',
  ],
] as const) {
  placed(rule, async (t, { mnt, sh }) => {
    const { status, stderr } = sh(line);
    t.equal(status, 0, stderr);
    t.same(readdirSync(mnt), ['a']);
    t.equal(sh('"$0" umount mnt').status, 0);
  });
}

placed('what went wrong, and its exit status', async (t, { mnt, sh }) => {
  for (const [rule, line, status, stderr] of [
    ['no such layer', '"$0" mount nope mnt', 32, /^lowerdata: layer nope: No such file or directory$/],
    ['the same by node', 'node "$1" mount nope mnt', 32, /^lowerdata: layer nope: No such file or directory$/],
    ['a wrong call', '"$0" mount A:B', 1, /the argument <mountpoint> is missing/],
    ['another command', '"$0" ls nope mnt', 1, /^lowerdata: layer nope: No such file or directory$/],
    ['no Node.js', 'PATH=/nowhere /bin/sh "$0" mount A:B mnt', 2, /Node\.js/],
    ['it dies', 'LOWERDATA_NODE=true "$0" mount A:B mnt', 32, /^lowerdata: the daemon died before the mount answered$/],
  ] as const) {
    const result = sh(line);
    t.equal(result.status, status, rule);
    t.match(result.stderr, stderr, rule);
    t.notOk(isMounted(mnt), rule);
  }
});

placed('nobody waits for it any longer', async (t, { mnt, sh }) => {
  // Node.js, late: the command is killed before it starts.
  const late = join(mnt, '..', 'late');
  writeFileSync(late, `#!/bin/sh\nsleep 2\nexec '${process.execPath}' "$@"\n`, { mode: 0o755 });
  sh(`LOWERDATA_NODE=${late} "$0" mount A:B ${mnt} >/dev/null 2>&1 & sleep 0.5; kill -9 $!`);
  t.ok(await soon(() => processesAt(mnt).length === 1), 'it is about to mount');
  for (let waited = 0; waited < 20_000 && processesAt(mnt).length > 0; waited += 50) await sleep(50);
  t.same(processesAt(mnt), [], 'its process ends');
  for (let waited = 0; waited < 10_000 && isMounted(mnt); waited += 50) await sleep(50);
  t.notOk(isMounted(mnt), 'and no mount is left that nobody knows of');
});

placed('in the foreground the command is the daemon', async (t, { mnt, sh }) => {
  const child = spawn(launcher, ['mount', '-f', join(mnt, '..', 'A'), mnt], { stdio: 'ignore' });
  const ended = new Promise(resolve => child.on('exit', resolve));
  for (let waited = 0; waited < 10_000 && !isMounted(mnt); waited += 10) await sleep(10);
  t.same(readdirSync(mnt), ['a']);
  child.kill('SIGTERM');
  t.equal(await ended, 0);
  t.notOk(isMounted(mnt));
  t.same(sh('"$0" --help').stdout, sh('node "$1" --help').stdout, 'the bundle is the same program');
});

/** Prints each message to the system's log. */
const SYSTEM_LOG = `
import socket
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.bind('/dev/log')
print('listening', flush=True)
while True: print(log.recv(65536).decode(), flush=True)`;

placed(
  'an exception is in the log of the system',
  async (t, { mnt, sh }) => {
    const log = spawn('python3', ['-c', SYSTEM_LOG], { stdio: ['ignore', 'pipe', 'inherit'] });
    let said = '';
    log.stdout.on('data', piece => {
      said += piece;
    });
    try {
      t.ok(await soon(() => said === 'listening\n'));
      writeFileSync(join(mnt, '..', 'late.cjs'), "setTimeout(() => { throw new Error('out of order'); }, 1000);");
      t.equal(sh('"$0" mount A:B mnt', { NODE_OPTIONS: `--require ${join(mnt, '..', 'late.cjs')}` }).status, 0);
      t.ok(await soon(() => /<28>lowerdata\[\d+\]: Error: out of order\n/.test(said)), said);
      t.ok(await soon(() => !isMounted(mnt)), 'and the mount is gone');
    } finally {
      log.kill();
      rmSync('/dev/log');
    }
  },
  without('python3') || (existsSync('/dev/log') && 'this system has a log of its own'),
);

placed('over /dev, where libuv opens a device of its own', async (t, { sh }) => {
  const line = '"$0" mount A:B /dev && timeout -s KILL 10 ls /dev; umount -l /dev';
  const { status, stdout, stderr } = sh(`exec unshare -m --propagation private sh -c '${line}' "$0"`);
  t.equal(status, 0, stderr);
  t.equal(stdout, 'a', 'it answers, and does not wait for itself');
});

t.test('what V8 compiled for the bundle is only used for the bundle', t =>
  withScratchAsync(async directory => {
    const [bin, cache] = ['main.cjs', 'main.cjs.cache'].map(name => join(directory, 'dist', 'bin', name)) as [
      string,
      string,
    ];
    for (const name of ['bin', 'dist/bin'])
      cpSync(join(packageFolder, name), join(directory, name), { recursive: true });
    for (const name of ['dist/src', 'native-shims', 'node_modules', 'package.json'])
      symlinkSync(join(packageFolder, name), join(directory, name));
    const help = (): string =>
      spawnSync(join(directory, 'bin', 'lowerdata'), ['--help'], { encoding: 'latin1' }).stdout;
    const [source, good, text] = [readFileSync(bin, 'latin1'), readFileSync(cache), help()];
    t.match(text, 'Mounts composefs images');
    for (const [rule, bytes] of [
      ['half of it', good.subarray(0, good.length >> 1)],
      ['a page of zeros', Buffer.from(good).fill(0, 409_600, 413_696)],
      ['a bit', Buffer.from(good).fill((good[500_000] as number) ^ 1, 500_000, 500_001)],
      ['nothing', Buffer.alloc(0)],
    ] as const) {
      writeFileSync(cache, bytes);
      t.equal(help(), text, rule);
    }
    writeFileSync(cache, good);
    writeFileSync(bin, source.replace('Mounts composefs images', 'MOUNTS COMPOSEFS IMAGES'), 'latin1');
    t.match(help(), 'MOUNTS COMPOSEFS IMAGES', 'a bundle of the same length');
  }),
);

placed('the package is moved while it serves a mount', async (t, { mnt, sh }) => {
  const home = join(mnt, '..', 'package');
  for (const name of ['bin', 'dist/bin', 'dist/src', 'native-shims', 'package.json'])
    cpSync(join(packageFolder, name), join(home, name), { recursive: true });
  symlinkSync(join(packageFolder, 'node_modules'), join(home, 'node_modules'));
  for (const signal of ['TERM', 'KILL']) {
    const { status, stderr } = sh(`package/bin/lowerdata mount A:B ${mnt}`);
    t.equal(status, 0, stderr);
    renameSync(home, `${home}-old`);
    t.same(readdirSync(mnt), ['a']);
    sh(`kill -${signal} ${processesAt(mnt).join(' ')}`);
    t.ok(await soon(() => !isMounted(mnt)), `${signal}: no mount is left`);
    renameSync(`${home}-old`, home);
  }
  rmSync(join(home, 'bin', 'watcher.sh'));
  const { status, stderr } = sh(`package/bin/lowerdata mount A:B ${mnt}`);
  t.equal(status, 32);
  t.match(stderr, /^lowerdata: .*watcher\.sh.*$/, 'without its program nothing is mounted, and one line says why');
  t.notOk(isMounted(mnt));
});

t.test('by a symlink elsewhere, as npm installs it', t =>
  withScratchAsync(async directory => {
    symlinkSync(launcher, join(directory, 'lowerdata'));
    const { stdout } = spawnSync(join(directory, 'lowerdata'), ['--version'], { encoding: 'utf8' });
    const { version } = JSON.parse(readFileSync(join(packageFolder, 'package.json'), 'utf8'));
    t.equal(stdout, `lowerdata ${version}\n`);
  }),
);

/** Calls the command as it is installed by one of its names, in a directory that has trees with odd names and an image. */
function byName(directory: string, line: string): { status: number | null; stdout: string; stderr: string } {
  const names = [
    'mkcomposefs',
    'composefs-info',
    'mount.composefs',
    'composefs-fuse',
    'mount.lowerdata',
    'lowerdata',
    'ld',
  ];
  if (!existsSync(join(directory, 'bin'))) {
    mkdirSync(join(directory, 'bin'));
    for (const name of names) symlinkSync(launcher, join(directory, 'bin', name));
    for (const name of ['tree', 'a:b', 'mount', '--background']) {
      mkdirSync(join(directory, name));
      writeFileSync(join(directory, name, 'f'), name);
    }
  }
  const { status, stdout, stderr } = spawnSync('/bin/sh', ['-c', line], {
    cwd: directory,
    encoding: 'latin1',
    timeout: 20_000,
    env: { ...process.env, PATH: `${join(directory, 'bin')}:${process.env.PATH}` },
  });
  return { status, stdout, stderr };
}

t.test('names by which it mounts nothing', t =>
  withScratchAsync(async directory => {
    for (const [rule, line] of [
      ['a path', 'mkcomposefs ./tree -'],
      ['a colon', 'mkcomposefs a:b -'],
      ['a command of lowerdata', 'mkcomposefs mount -'],
      ['an option of the launcher', 'mkcomposefs -- --background -'],
      ['an absolute path', 'mkcomposefs "$PWD/tree" -'],
    ] as const) {
      const { status, stdout, stderr } = byName(directory, line);
      t.same([status, stderr], [0, ''], `${rule}: ${line}`);
      t.equal(stdout.slice(1024, 1028), '\xe2\xe1\xf5\xe0', `${rule}: the image is there when it ends`); // the magic of EROFS
    }
    byName(directory, 'mkcomposefs tree x.cfs; cp x.cfs a:b.cfs');
    for (const [rule, line, want] of [
      ['its first argument is no question', 'composefs-info ./x.cfs', 1],
      ['it has a question', 'composefs-info dump ./a:b.cfs', 0],
    ] as const) {
      const { status, stdout, stderr } = byName(directory, line);
      t.equal(status, want, `composefs-info: ${rule}`);
      t.match(stdout + stderr, want === 0 ? /^\/f /m : /lowerdata: /m, `composefs-info: ${rule}: an answer`);
    }
  }),
);

t.test('names by which it mounts', { skip: withoutFuse }, t =>
  withScratchAsync(async directory => {
    byName(directory, 'mkcomposefs --digest-store=objects tree x.cfs; cp x.cfs a:b.cfs; mkdir mnt; mkdir nothing');
    const [mnt, f] = [join(directory, 'mnt'), ['f']];
    for (const [line, want] of [
      ['mount.composefs -o basedir=objects ./x.cfs mnt', f],
      ['mount.composefs -o basedir=objects a:b.cfs mnt', f],
      ['composefs-fuse -o source=./a:b.cfs,basedir=objects mnt', f],
      ['mount.lowerdata ./tree mnt', f],
      ['lowerdata ./tree mnt', f],
      ['lowerdata tree:mount mnt', f],
      ['ld ./tree mnt', f],
      ['ld mount tree mnt', f],
    ] as const)
      try {
        const { status, stderr } = byName(directory, line);
        t.equal(status, 0, `${line}: ${stderr}`);
        t.same(readdirSync(mnt), want, line);
      } finally {
        while (isMounted(mnt)) native.umount(byteStringFromText(mnt), MNT_DETACH);
      }
  }),
);

t.test('a checkout that is not built', t =>
  withScratchAsync(async directory => {
    cpSync(join(packageFolder, 'bin'), join(directory, 'bin'), { recursive: true });
    for (const args of [['--help'], ['mount', 'a', 'b']]) {
      const { status, stderr } = spawnSync(join(directory, 'bin', 'lowerdata'), args, { encoding: 'utf8' });
      t.equal(status, 2, args.join(' '));
      t.equal(stderr, `lowerdata: ${directory} is not built: run \`npm run build\` there\n`, 'one line says so');
    }
  }),
);
t.end();
