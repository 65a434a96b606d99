import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  closeSync,
  linkSync,
  lstatSync,
  openSync,
  renameSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { EBADF, ENOENT, ENOTDIR } from '../../src/sys/errno.ts';
import { makeRdev } from '../../src/sys/stat.ts';
import * as sx from '../../src/sys/statx.ts';
import { device, dir, fifo, file, link } from '../fixtures/fake-layer.ts';
import { plant, scratch } from '../fixtures/layers.ts';
import { withoutRoot } from '../fixtures/skips.ts';

/** statx of a path; its attributes with the number they have. */
function attr(path: string): ReturnType<typeof sx.statxAttr> {
  t.equal(sx.statx(sx.AT_FDCWD, path), 0);
  return sx.statxAttr(sx.statxInoHigh() * 2 ** 32 + sx.statxInoLow());
}

t.test('struct statx, as the C compiler lays it out', async t => {
  const fields = Object.keys(sx.Statx).filter(name => name !== 'SIZE');
  const program = `#include <linux/stat.h>
#include <stddef.h>
#include <stdio.h>
int main(void) {
${fields.map(name => `printf("%zu ", offsetof(struct statx, stx_${name}));`).join('\n')}
printf("%zu", sizeof(struct statx)); }`;
  const home = scratch(t);
  try {
    execFileSync('cc', ['-x', 'c', '-', '-o', join(home, 'offsets')], { input: program });
  } catch {
    return t.pass('offsets', { skip: 'needs a C compiler and linux/stat.h' });
  }
  const offsets = execFileSync(join(home, 'offsets'), { encoding: 'utf8' }).split(' ').map(Number);
  t.strictSame(Object.values(sx.Statx), offsets);
});

t.test('attributes, as node:fs reads them', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  plant(
    home,
    dir({
      file: file('x'.repeat(5000)),
      old: file(),
      link: link('nowhere'),
      fifo: fifo(),
      tty: device(4, 65),
      large: device(4095, 0xfffff),
      d: dir(),
    }),
  );
  linkSync(join(home, 'file'), join(home, 'hard'));
  chmodSync(join(home, 'file'), 0o6751);
  execFileSync('chown', ['4294967294:70000', join(home, 'file')]);
  execFileSync('touch', ['-d', '1901-12-14 00:00:00.123456789 UTC', join(home, 'old')]);
  for (const name of ['file', 'hard', 'old', 'link', 'fifo', 'tty', 'large', 'd', '.']) {
    const s = lstatSync(join(home, name), { bigint: true });
    const floor = (ns: bigint): [number, number] => {
      const nsec = ((ns % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
      return [Number((ns - nsec) / 1_000_000_000n), Number(nsec)];
    };
    const [atime, atimensec] = floor(s.atimeNs);
    const [mtime, mtimensec] = floor(s.mtimeNs);
    const [ctime, ctimensec] = floor(s.ctimeNs);
    const major = Number(((s.rdev >> 8n) & 0xfffn) | ((s.rdev >> 32n) & ~0xfffn)); // as glibc packs it
    const minor = Number((s.rdev & 0xffn) | ((s.rdev >> 12n) & ~0xffn));
    const numbers = {
      ino: Number(s.ino),
      mode: Number(s.mode),
      nlink: Number(s.nlink),
      uid: Number(s.uid),
      gid: Number(s.gid),
      rdev: makeRdev(major, minor),
      size: Number(s.size),
      blocks: Number(s.blocks),
      blksize: Number(s.blksize),
    };
    const ours = attr(join(home, name));
    // node:fs makes something up where the filesystem has no birth time
    const [btime, btimensec] = ours.btime === undefined ? [undefined, undefined] : floor(s.birthtimeNs);
    const want = { ...numbers, atime, atimensec, mtime, mtimensec, ctime, ctimensec, btime, btimensec };
    t.strictSame(ours, want, name);
    t.equal(sx.statxMode(), want.mode, `${name}: mode alone`);
    t.equal(sx.statxSize(), want.size, `${name}: size alone`);
    t.equal(sx.statxRdev(), want.rdev, `${name}: rdev alone`);
  }
  t.equal(attr(join(home, 'old')).mtime < 0, true, 'a time before 1970 is negative');
});

t.test('what is asked', async t => {
  const home = scratch(t);
  writeFileSync(join(home, 'f'), '123');
  const fd = openSync(home, 'r');
  const inner = openSync(join(home, 'f'), 'r');
  for (const [rule, dirfd, name, want] of [
    ['a name in a directory', fd, 'f', 0],
    ['a missing name', fd, 'none', -ENOENT],
    ['an empty name: the descriptor itself', inner, '', 0],
    ['a name in a file', inner, 'f', -ENOTDIR],
    ['no descriptor', 99_999, '', -EBADF],
  ] as const) {
    t.equal(sx.statx(dirfd, name), want, rule);
  }
  sx.statx(fd, '');
  const device = sx.statxDevice();
  const mount = sx.statxMountId();
  const { dev } = lstatSync(home);
  t.same([device.major, device.minor], [(dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xfff00)], 'the device');
  t.equal(sx.statxDeviceIs(device), true);
  t.equal(sx.statxDeviceIs({ ...device, minor: device.minor + 1 }), false);
  t.equal(sx.statxDeviceIs({ ...device, major: device.major + 1 }), false);
  sx.statx(fd, 'f');
  t.equal(sx.statxMountId(), mount, 'a file is on the mount of its directory');
  sx.statx(sx.AT_FDCWD, '/proc');
  t.not(sx.statxMountId(), mount, '/proc is on another');
  closeSync(fd);
  closeSync(inner);
});

const OTHER = 'another file under the name';

t.test('a version changes when the contents may have', async t => {
  const path = join(scratch(t), 'f');
  const version = (of = path): string => {
    sx.statx(sx.AT_FDCWD, of);
    return sx.statxVersion();
  };
  writeFileSync(path, '123');
  utimesSync(path, 1000, 1000);
  let last = version();
  t.equal(version(), last, 'and not else');
  for (const [rule, change] of [
    ['another size', () => appendFileSync(path, '4')],
    ['another mtime', () => utimesSync(path, 1000, 2000)],
    [
      'the same size and mtime, but another ctime',
      () => {
        writeFileSync(path, 'abcd');
        utimesSync(path, 1000, 2000);
      },
    ],
    [
      OTHER,
      () => {
        writeFileSync(`${path}.new`, 'abcd');
        utimesSync(`${path}.new`, 1000, 2000);
        renameSync(`${path}.new`, path);
      },
    ],
  ] as const) {
    change();
    const now = version();
    t.not(now, last, rule);
    t.equal(sx.identityIn(now) === sx.identityIn(last), rule !== OTHER, `${rule}: whether it is the same object`);
    last = now;
  }
  linkSync(path, `${path}.hard`);
  t.equal(version(`${path}.hard`), version(), 'the names of a hard link have one');
});
t.end();
