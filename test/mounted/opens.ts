/** Files that the kernel opens without asking (opens=none), through real mounts over both transports. */
import { closeSync, mkdirSync, openSync, readFileSync, readSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises'; // which leaves time to take what the daemon writes
import { join } from 'node:path';
import t from 'tap';
import { native } from '../../src/sys/native.ts';
import { ForegroundMount, soon } from '../fixtures/mounts/foreground.ts';
import { command } from '../fixtures/mounts/mounted.ts';
import { runCommand } from '../fixtures/run-command.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse, withoutFuseUring } from '../fixtures/skips.ts';

const EIO = -5;
/** Measured at once, on a thread of its own, and with hashes that are more than one block of them. */
const SIZES = { small: 5_000, large: 1_000_003, huge: 40_000_000 } as const;

/** Bytes that differ from block to block. */
function content(size: number): Buffer {
  const bytes = Buffer.alloc(size);
  for (let at = 0; at + 4 <= size; at += 4) bytes.writeUInt32LE(Math.imul(at, 2654435761) >>> 0, at);
  return bytes;
}

/** The first bytes of a file that is open already; a negative errno where they cannot be read. */
function firstBytes(fd: number): Buffer | number {
  const bytes = new Uint8Array(16);
  const n = native.pread(fd, bytes, 0, bytes.length, 0);
  return n < 0 ? n : Buffer.from(bytes.subarray(0, n));
}

/** An image of files of the sizes above, and its objects by their names in the tree. */
function makeImage(home: string): Map<string, string> {
  mkdirSync(join(home, 'tree'));
  for (const [name, size] of Object.entries(SIZES)) writeFileSync(join(home, 'tree', name), content(size));
  for (const name of ['missing', 'wrong', 'wrong-large'])
    writeFileSync(join(home, 'tree', name), `${name} ${'x'.repeat(name === 'wrong-large' ? 300_000 : 3000)}`);
  command('mkfs', `--digest-store=${home}/objects`, join(home, 'tree'), join(home, 'image'));
  const dump = command('info', 'dump', join(home, 'image'));
  const rows = dump.split('\n').map(line => line.split(' '));
  return new Map(
    rows.map(([path = '', , , , , , , , payload = '']) => [path.slice(1), join(home, 'objects', payload)]),
  );
}

for (const [transport, skip] of [
  ['dev', withoutFuse],
  ['uring', withoutFuseUring],
] as const) {
  t.test(`over ${transport}`, { skip }, async t => {
    await withScratchAsync(async home => {
      const objects = makeImage(home);
      const object = (name: string): string => objects.get(name) as string;
      rmSync(object('missing'));
      for (const name of ['wrong', 'wrong-large']) writeFileSync(object(name), readFileSync(object(name)).reverse());
      const options = `opens=none,debug,transport=${transport}`;
      const mount = await ForegroundMount.make(`${home}/image::${home}/objects`, join(home, 'mnt'), options);
      try {
        const file = (name: string): string => join(mount.root, name);
        for (const [name, size] of Object.entries(SIZES)) {
          t.ok((await readFile(file(name))).equals(content(size)), `${name}: its bytes`);
        }
        /** The requests about data so far: all that came before a lookup that is seen in the log. */
        const requests = async (marker: string): Promise<string[]> => {
          t.throws(() => openSync(file(marker), 'r'), { code: 'ENOENT' });
          t.ok(await soon(() => mount.log.includes(`"${marker}"`)), marker);
          return mount.log.match(/→ \d+ (OPEN|READ|RELEASE|FLUSH) /g) ?? [];
        };
        let before = await requests('read-once');
        let again = before;
        for (let i = 0; i < 5 && (i === 0 || again.length > before.length); i++) {
          before = again; // pages go where the whole machine is told to drop its caches
          for (const name of Object.keys(SIZES)) await readFile(file(name));
          again = await requests(`read-again-${i}`);
        }
        t.strictSame(again, before, 'to open and read it again asks for nothing');
        t.equal(before.filter(line => line.includes('OPEN')).length, 1, 'one open was asked for, ever');

        for (const name of ['missing', 'wrong', 'wrong-large']) {
          const fd = openSync(file(name), 'r');
          t.equal(firstBytes(fd), EIO, `${name}: shows at the first read`);
          closeSync(fd);
        }
        await requests('failed');
        t.match(mount.log, /READ nodeid \d+: EIO: .*EWRONGVERITY/, 'and is logged with its reason');

        const hole = openSync(file('large'), 'r');
        t.equal(native.lseek(hole, 0, 4), SIZES.large, 'a hole is looked for');
        closeSync(hole);

        renameSync(object('small'), `${home}/aside`);
        writeFileSync(object('small'), 'x'.repeat(SIZES.small));
        const isFoundOut = (): boolean => {
          writeFileSync('/proc/sys/vm/drop_caches', '3'); // of pages and inodes; that one is gone the daemon may hear later
          const changed = openSync(file('small'), 'r');
          const bytes = firstBytes(changed);
          closeSync(changed);
          return bytes === EIO;
        };
        t.ok(await soon(isFoundOut), 'an object that was replaced is found out once its pages are gone');
        const good = openSync(file('large'), 'r');
        t.equal(readSync(good, Buffer.alloc(10)), 10, 'while others go on');
        closeSync(good);
      } finally {
        await mount.clear();
      }
    });
  });
}

t.test('what it excludes', { skip: withoutFuse }, t => {
  const { status, stderr } = runCommand(['mount', '/a', '/b', '-o', 'opens=none,passthrough=on']);
  t.not(status, 0, 'it is refused');
  t.match(stderr, /opens=none: excludes passthrough=on/, 'with the reason');
  t.end();
});
