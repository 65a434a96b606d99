/** Proves src/fuse/session.ts, and with it all of src/fuse, against the running kernel. */
import { writeFileSync } from 'node:fs';
import { access, constants, lstat, open, readdir, readFile, readlink, stat, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { must } from '../../src/sys/errno.ts';
import { native } from '../../src/sys/native.ts';
import { CROWD, crowdName } from '../fixtures/mounts/tiny-fs.ts';
import { withTinyMount } from '../fixtures/mounts/tiny-mount.ts';
import { withScratch } from '../fixtures/scratch.ts';
import { withoutFuse, withoutFuseUring } from '../fixtures/skips.ts';

const TRANSPORTS = [
  ['dev', withoutFuse],
  ['uring', withoutFuseUring],
] as const;
/** A reply that is too long: over io_uring the kernel tells its caller alone. */
const REFUSED = { dev: 'EIO', uring: 'EINVAL' } as const;
const REFUSAL = 'a reply of 5016 bytes was refused: Invalid argument';

for (const [transport, skip] of TRANSPORTS)
  t.test(`a mount over ${transport}`, { skip }, async t => {
    const { end, destroyed, log, trace } = await withTinyMount(async mount => {
      const names = ['corrupt', 'crowd', 'hello', 'large', 'link', 'long', 'usr'];
      t.strictSame((await readdir(mount)).sort(), names, 'the root is listed');

      const s = await stat(join(mount, 'hello'), { bigint: true });
      t.equal(s.ino, 0x1003n, 'inode number');
      t.equal(s.mode, 0o100644n, 'type and mode');
      t.equal(s.nlink, 1n, 'links');
      t.equal(s.uid, 10n, 'owner');
      t.equal(s.gid, 11n, 'group');
      t.equal(s.size, 6n, 'size');
      t.equal(s.blocks, 8n, 'blocks');
      t.equal(s.blksize, 4096n, 'block size');
      t.equal(s.atimeNs, 1_000_000_002n, 'access time');
      t.equal(s.mtimeNs, 3_000_000_004n, 'modification time');
      t.equal(s.ctimeNs, 5_000_000_006n, 'change time');

      t.equal(await readFile(join(mount, 'hello'), 'latin1'), 'hello\n', 'a file is read');
      const large = await readFile(join(mount, 'large'), 'latin1');
      t.equal(large, '0123456789abcdef'.repeat(200_000), 'a large file is read');
      t.equal(await readlink(join(mount, 'link'), 'latin1'), 'usr/\xe9', 'a target is bytes');

      const crowd = await readdir(join(mount, 'crowd'));
      t.equal(crowd.length, CROWD, 'a listing of many replies is complete');
      t.strictSame(crowd.sort(), Array.from({ length: CROWD }, (_, i) => crowdName(i)).sort(), 'its names');
      t.equal((await lstat(join(mount, 'crowd', crowdName(7)))).size, crowdName(7).length, 'and what they name');

      const { blocks, files, bsize } = await statfs(mount);
      t.strictSame({ blocks, files, bsize }, { blocks: 77, files: 8, bsize: 4096 }, 'statfs');

      const value = new Uint8Array(16);
      t.equal(native.lgetxattr(join(mount, 'hello'), 'user.a', value.subarray(0, 0)), 5, 'the size of an xattr');
      t.equal(native.lgetxattr(join(mount, 'hello'), 'user.a', value), 5, 'an xattr');
      t.equal(Buffer.from(value).toString('latin1', 0, 5), 'value', 'its value');
      t.equal(native.lgetxattr(join(mount, 'hello'), 'user.a', value.subarray(0, 4)), -34, 'no room: ERANGE');
      t.equal(native.listxattr(join(mount, 'hello'), value), 14, 'the names of xattrs');

      const handle = await open(join(mount, 'hello'));
      t.equal(native.lseek(handle.fd, 2, 3), 2, 'the next data');
      t.equal(native.lseek(handle.fd, 2, 4), 6, 'the next hole');
      await handle.close();

      await access(join(mount, 'hello'), constants.R_OK);
      for (const [rule, attempt, code] of [
        ['a name that does not exist', () => stat(join(mount, 'nothing')), 'ENOENT'],
        ['a name that is too long', () => stat(join(mount, 'n'.repeat(256))), 'ENAMETOOLONG'],
        ['what the filesystem throws', () => readFile(join(mount, 'corrupt')), 'EUCLEAN'],
        ['a reply that the kernel refuses', () => readlink(join(mount, 'long')), REFUSED[transport]],
        ['after which all goes on', () => readlink(join(mount, 'hello')), 'EINVAL'],
        ['a change', () => writeFile(join(mount, 'new'), ''), 'EROFS'],
      ] as const) {
        const error: unknown = await attempt().then(
          () => 'no error',
          (thrown: unknown) => thrown,
        );
        t.match(error, { code: code === 'EUCLEAN' ? /EUCLEAN|Unknown system error -117/ : code }, `${rule}: ${code}`);
      }
    }, transport);
    t.equal(end, 'unmounted', 'the loop ends with the mount');
    t.equal(destroyed, 1, 'and the filesystem is told');
    t.strictSame(
      log,
      ['OPEN nodeid 7: EUCLEAN: nid 36: no data', ...(transport === 'dev' ? [REFUSAL] : [])],
      'what went wrong is logged once',
    );
    const init = trace.find(line => line.startsWith('←') && line.includes(' INIT ')) ?? '';
    t.match(init, /INIT major 7 minor \d+ .*DO_READDIRPLUS/, 'something is agreed on');
    for (const [rule, opcode, times] of [
      ['a directory is opened by no message once it was refused', 'OPENDIR', 1],
      ['a close is not asked about again', 'FLUSH', 1],
      ['what a listing brought is not looked up', 'LOOKUP', 3],
    ] as const) {
      const asked = trace.filter(line => line.startsWith('→') && line.includes(` ${opcode} `));
      t.equal(asked.length, times, rule);
    }
  });

for (const [transport, skip] of TRANSPORTS)
  t.test(`an aborted connection over ${transport}`, { skip }, async t => {
    const { end, destroyed } = await withTinyMount(async mount => {
      const { dev } = await stat(mount);
      withScratch(control => {
        must(native.mount('none', control, 'fusectl', 0, ''), 'mount fusectl');
        try {
          writeFileSync(join(control, String(minorOf(dev)), 'abort'), '1');
        } finally {
          native.umount(control, 0);
        }
      });
    }, transport);
    t.equal(end, 'aborted', 'is told apart from an unmounted one');
    t.equal(destroyed, 1, 'and the filesystem is told');
  });

/** Source: glibc, gnu_dev_minor. */
const minorOf = (dev: number): number => (dev & 0xff) | ((dev >>> 12) & ~0xff);
