/** Proves that the examples of the manual do what they say: each runs in a directory of its own. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { commands } from '../../src/cli/commands.ts';
import { manualOfProgram } from '../../src/cli/manual/machine.ts';
import { manuals } from '../../src/cli/manual/manuals.ts';
import { manualOfOptions } from '../../src/cli/manual/mounts.ts';
import { type Example, GREETING } from '../../src/cli/manual/words.ts';
import { writableByOthers } from '../../src/cli/root-owned.ts';
import { withExt4, withoutExt4 } from '../fixtures/mounts/ext4.ts';
import { command, lowerdata, packageFolder } from '../fixtures/mounts/mounted.ts';
import { member } from '../fixtures/oci/archives.ts';
import { archiveOf, TAG, writeImage, writeIndex } from '../fixtures/oci/layout.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { KEY_KINDS, makeSignatory } from '../fixtures/seals.ts';
import { without, withoutFuse } from '../fixtures/skips.ts';

t.setTimeout(300_000);
const TIME_S = 1_700_000_000;

/** A command on the PATH. */
const programs = mkdtempSync(join(tmpdir(), 'lowerdata-manual-'));
t.teardown(() => rmSync(programs, { recursive: true }));
writeFileSync(join(programs, 'lowerdata'), `#!/bin/sh\nexec '${process.execPath}' '${lowerdata}' "$@"\n`);
chmodSync(join(programs, 'lowerdata'), 0o755);

/** Makes what src/cli/manual/words.ts promises to examples. */
function prepare(home: string): void {
  for (const name of ['A', 'B', 'mnt', 'tree/notes']) mkdirSync(join(home, name), { recursive: true });
  const files = { 'A/a': 'a\n', 'B/b': 'b\n', 'tree/hello': `${GREETING}\n`, 'tree/notes/today': 'buy milk\n' };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(home, name), text, { mode: 0o644 });
  for (const name of [...Object.keys(files), 'tree/notes', 'tree', 'A', 'B'])
    utimesSync(join(home, name), TIME_S, TIME_S);
  const layer = archiveOf(
    member({ name: 'usr/', type: '5', mode: 0o755, mtime: TIME_S }),
    member({ name: 'usr/hello', mtime: TIME_S }, `${GREETING}\n`),
  );
  writeIndex(join(home, 'layout'), [{ ...writeImage(join(home, 'layout'), [layer]), annotations: { [TAG]: 'v1' } }]);
  command('mkfs', `--digest-store=${home}/objects`, join(home, 'tree'), join(home, 'image.cfs'));
}

/** The pattern of what a session prints. */
function printed({ session }: Example): RegExp {
  const lines = session.filter(line => !line.startsWith('$ '));
  const patterns = lines.map(line => {
    const pattern = line.split('...').map(part => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
    return line === '...' ? '(?:.*\n)*' : `${pattern.join('.*')}\n`;
  });
  return new RegExp(`^${patterns.join('')}$`);
}

const notOfRoot = (): string | false => {
  const part = [process.execPath, packageFolder].map(writableByOthers).find(part => part !== undefined);
  return part === undefined ? false : `root may not run this copy: ${part}`;
};
const skips: { readonly [Need in NonNullable<Example['needs']>]: () => string | false } = {
  mounts: () => withoutFuse,
  uuid: () => withoutExt4,
  sbin: () => withoutFuse || notOfRoot(),
  openssl: () => without('openssl'),
  'mounts and openssl': () => withoutFuse || without('openssl'),
};
/** Puts a /sbin that is writable, and gone with the shell, over that of the machine. */
const WRITABLE_SBIN =
  'mkdir s && mount -t tmpfs none s && mkdir s/u s/w && mount -t overlay none -o lowerdir=/usr/sbin,upperdir=s/u,workdir=s/w /usr/sbin';

function makeKey(home: string): void {
  const { keyFile, certFile } = makeSignatory(home, 'example', KEY_KINDS.p256);
  mkdirSync(join(home, 'keys'));
  renameSync(keyFile, join(home, 'key.pem'));
  renameSync(certFile, join(home, 'keys', 'cert.pem'));
}

function runIn(home: string, { session, needs }: Example) {
  prepare(home);
  if (needs?.includes('openssl')) makeKey(home);
  const lines = session.filter(line => line.startsWith('$ ')).map(line => line.slice(2));
  const before = needs === 'sbin' ? [WRITABLE_SBIN] : [];
  const shell = ['sh', '-ec', [...before, ...lines].join('\n')];
  const [program = '', ...args] = needs === 'sbin' ? ['unshare', '-m', ...shell] : shell;
  const env = { ...process.env, PATH: `${programs}:${process.env.PATH}` };
  const result = spawnSync(program, args, { cwd: home, env, encoding: 'utf8', timeout: 120_000 });
  if (needs?.includes('mounts')) spawnSync('umount', ['-l', join(home, 'mnt')]); // what a failed example has left
  return result;
}

async function prove(t: Test, home: string, example: Example): Promise<void> {
  const { status, stdout, stderr } = runIn(home, example);
  t.equal(status, example.status ?? 0, `the exit status: ${stderr}`);
  t.match(stdout, printed(example), 'what it prints');
}

const pages = [...manuals, ['(the program)', manualOfProgram] as const, ['(options)', manualOfOptions] as const];
t.same([...manuals.keys()].sort(), [...commands.keys()].sort(), 'every command has a page');
for (const [page, { examples }] of pages) {
  t.ok(examples.length > 0, `${page} has examples`);
  for (const example of examples) {
    const { what, needs } = example;
    t.test(`${page}: ${what}`, { skip: needs ? skips[needs]() : false }, t =>
      withScratchAsync(directory =>
        needs === 'uuid' ? withExt4(directory, root => prove(t, root, example)) : prove(t, directory, example),
      ),
    );
  }
}
t.end();
