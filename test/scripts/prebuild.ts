/** Proves that the package is installed and mounts on a machine without compilers, by npm with install scripts blocked. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Script } from 'node:vm';
import t from 'tap';
import { scratch } from '../fixtures/layers.ts';
import { packageFolder } from '../fixtures/mounts/mounted.ts';
import { without, withoutFuse } from '../fixtures/skips.ts';

t.setTimeout(600_000);

/** All that the machine has: Node.js with npm, a shell, and what Debian always has. */
const PROGRAMS = ['env', 'node', 'readlink', 'rm', 'setsid', 'sh', 'sleep', 'umount', 'uname'];
const COMPILERS = ['cc', 'gcc', 'make', 'python3', 'node-gyp'];
/** What Node.js 20 asks for itself. Source: its BUILDING.md, "Platform list". */
const GLIBC = [2, 28];

const pathOf = (program: string): string =>
  execFileSync('sh', ['-c', 'command -v "$0"', program], { encoding: 'utf8' }).trim();

/** A directory that is the whole PATH. */
function makePath(home: string): string {
  const path = join(home, 'bin');
  mkdirSync(path);
  for (const program of [...PROGRAMS, 'npm']) symlinkSync(pathOf(program), join(path, program));
  return path;
}

/** The packed package, with addons for which a compiler is here. */
function pack(home: string): string {
  execFileSync(join(packageFolder, 'scripts', 'prebuild.sh'), { stdio: ['ignore', 'inherit', 'ignore'] });
  const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', home];
  const [{ filename }] = JSON.parse(execFileSync('npm', args, { cwd: packageFolder, encoding: 'utf8' })) as [
    { filename: string },
  ];
  return join(home, filename);
}

t.test('a machine without compilers', { skip: without('cc') || without('objdump') || withoutFuse }, async t => {
  const home = scratch(t);
  const tarball = pack(home);
  const env = { ...process.env, PATH: makePath(home) };
  const run = (...words: string[]) => {
    const [program = '', ...args] = words;
    const { status, stdout, stderr } = spawnSync(program, args, { cwd: home, env, encoding: 'utf8' });
    return { status, stdout: stdout.trim(), stderr: stderr.trim() };
  };
  for (const compiler of COMPILERS)
    t.not(run('sh', '-c', `command -v ${compiler}`).status, 0, `${compiler} is not there`);

  writeFileSync(join(home, 'package.json'), '{ "private": true }');
  const quiet = ['--no-audit', '--no-fund', '--prefer-offline', '--omit=optional'];
  const installed = run('npm', 'install', '--ignore-scripts', ...quiet, tarball);
  t.equal(installed.status, 0, installed.stderr);
  const command = join(home, 'node_modules', '.bin', 'lowerdata');
  t.match(run(command, '--version').stdout, /^lowerdata \d/);

  for (const directory of ['A', 'mnt']) mkdirSync(join(home, directory));
  writeFileSync(join(home, 'A', 'poem'), 'so much depends\n');
  const mounted = run(command, 'mount', 'A', 'mnt');
  t.equal(mounted.status, 0, mounted.stderr);
  try {
    t.equal(readFileSync(join(home, 'mnt', 'poem'), 'utf8'), 'so much depends\n');
    const { mounts } = JSON.parse(run(command, 'status', '--json').stdout) as {
      mounts: { pid: number; mountpoint: string }[];
    };
    const { pid } = mounts.find(({ mountpoint }) => mountpoint === join(home, 'mnt')) ?? {};
    t.match(readFileSync(`/proc/${pid}/maps`, 'utf8'), `${home}/node_modules/lowerdata/native-shims/prebuilds/linux-`);
  } finally {
    t.equal(run(command, 'umount', 'mnt').status, 0);
  }

  const bundle = join(home, 'node_modules', 'lowerdata', 'dist', 'bin', 'main.cjs');
  rmSync(`${bundle}.cache`);
  const rebuilt = run('npm', 'rebuild', '--foreground-scripts', 'lowerdata');
  t.equal(rebuilt.status, 0, rebuilt.stderr);
  const [source, cache] = [bundle, `${bundle}.cache`].map(file => readFileSync(file)) as [Buffer, Buffer];
  const { cachedDataRejected } = new Script(source.toString('latin1'), { cachedData: cache.subarray(0, -4) });
  t.equal(cachedDataRejected, false, 'where scripts may run, V8 compiles the command for the Node.js that is there');
  t.match(run(command, '--version').stdout, /^lowerdata \d/);

  t.test('an addon needs no newer C library than Node.js', async t => {
    const folder = join(home, 'node_modules', 'lowerdata', 'native-shims', 'prebuilds');
    for (const platform of readdirSync(folder)) {
      const file = join(folder, platform, 'node.napi.glibc.node');
      const symbols = execFileSync('objdump', ['-T', file], { encoding: 'utf8' });
      const versions = [...symbols.matchAll(/GLIBC_(\d+)\.(\d+)/g)].map(([, ...numbers]) => numbers.map(Number));
      t.ok(versions.length > 0, `${platform} is one of glibc`);
      const newer = versions.filter(
        ([major = 0, minor = 0]) => major > (GLIBC[0] ?? 0) || (major === GLIBC[0] && minor > (GLIBC[1] ?? 0)),
      );
      t.same(newer, [], platform);
    }
  });
});
t.end();
