/** The answers to each operation, without a kernel: an overlay of real or fake layers, replies as bytes. */
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Backing } from '../../src/driver/backing.ts';
import type { CachePolicy } from '../../src/driver/cache.ts';
import { Files } from '../../src/driver/files.ts';
import { OverlayFilesystem, type Visibility } from '../../src/driver/filesystem.ts';
import { type Nodeid, ROOT, type Unique } from '../../src/fuse/filesystem.ts';
import {
  AttrOut,
  Dirent,
  DirentPlus,
  EntryOut,
  Fopen,
  FuseAttr,
  Kstatfs,
  OpenOut,
  StatxOut,
} from '../../src/fuse/wire/abi.ts';
import { DEFAULT_MEMORY } from '../../src/overlay/cache.ts';
import { openOverlay } from '../../src/overlay/open.ts';
import { Overlay } from '../../src/overlay/overlay.ts';
import { step } from '../../src/overlay/step.ts';
import { byteStringOf, getU64 } from '../../src/sys/bytes.ts';
import {
  EBADF,
  EINVAL,
  EISDIR,
  ENAMETOOLONG,
  ENODATA,
  ENOENT,
  ENOTDIR,
  EOPNOTSUPP,
  EROFS,
  ESTALE,
} from '../../src/sys/errno.ts';
import { dir, FakeLayer, file, link, meta, type Spec } from '../fixtures/fake-layer.ts';
import { openStack, optionsOf, plainOptions, plant, scratch } from '../fixtures/layers.ts';
import { descriptors } from '../fixtures/native.ts';
import { withoutRoot } from '../fixtures/skips.ts';

const FOR_EVER: CachePolicy = {
  entrySeconds: Number.POSITIVE_INFINITY,
  attrSeconds: 1,
  negativeSeconds: Number.POSITIVE_INFINITY,
  asksToOpen: true,
};
const root = { uid: 0, gid: 0, pid: 1 };
const nobody = { uid: 65534, gid: 65534, pid: 2 };
/** user::rw-, user:1:r--, group::r--, mask::r--, other::r--. Source: linux/posix_acl_xattr.h. */
const ACL = [
  '\x02\0\0\0',
  '\x01\0\x06\0\xff\xff\xff\xff',
  '\x02\0\x04\0\x01\0\0\0',
  '\x04\0\x04\0\xff\xff\xff\xff',
  '\x10\0\x04\0\xff\xff\xff\xff',
  '\x20\0\x04\0\xff\xff\xff\xff',
].join('');
const id = (n: number): Nodeid => n as Nodeid;

interface Entry {
  name: string;
  ino: number;
  next: number;
  dtype: number;
  nodeid?: number;
}

const UNIQUE = '\x01\0\0\0\0\0\0\0' as Unique;

/** A filesystem and the place where it writes replies, which are dirty before each. */
class Fixture {
  readonly fs: OverlayFilesystem;
  readonly bytes = new Uint8Array(1 << 16);
  readonly view = new DataView(this.bytes.buffer);

  constructor(overlay: Overlay, { cache = FOR_EVER, visible = { acl: true, trusted: true } as Visibility } = {}) {
    const files = new Files(overlay, new Backing(-1, false, () => {}), { idleMax: 4 });
    this.fs = new OverlayFilesystem(overlay, files, cache, visible);
  }

  get out(): { bytes: Uint8Array; view: DataView } {
    this.bytes.fill(0xaa);
    return this;
  }

  /** Looks up a path; the nodeid, or a negative errno. */
  lookup(path: string): number {
    let at: number = ROOT;
    for (const name of path.split('/').filter(Boolean)) {
      const result = this.fs.lookup(id(at), name, this.out);
      if (result < 0) return result;
      at = getU64(this.view, EntryOut.nodeid);
    }
    return at;
  }

  /** Opens what was looked up; the handle. */
  open(nodeid: number): number {
    const result = this.fs.open(id(nodeid), 0, this.out, UNIQUE, false);
    if (result < 0) throw new Error(`open: ${result}`);
    return getU64(this.view, OpenOut.fh);
  }

  opendir(nodeid: number): number {
    const result = this.fs.opendir(id(nodeid), this.out);
    if (result < 0) throw new Error(`opendir: ${result}`);
    return getU64(this.view, OpenOut.fh);
  }

  read(fh: number): string {
    const count = this.fs.read(ROOT, fh, 0, 100, this.out, UNIQUE);
    return byteStringOf(this.bytes, 0, count);
  }

  readdir(nodeid: number, fh: number, position: number, length: number, plus: boolean): Entry[] {
    const total = this.fs.readdir(id(nodeid), fh, position, length, plus, this.out);
    const entries: Entry[] = [];
    const start = plus ? DirentPlus.dirent : 0;
    for (let at = 0; at < total; ) {
      const dirent = at + start;
      const nameAt = dirent + Dirent.SIZE;
      const nameEnd = nameAt + this.view.getUint32(dirent + Dirent.namelen, true);
      entries.push({
        name: byteStringOf(this.bytes, nameAt, nameEnd),
        ino: getU64(this.view, dirent + Dirent.ino),
        next: getU64(this.view, dirent + Dirent.off),
        dtype: this.view.getUint32(dirent + Dirent.type, true),
        ...(plus && { nodeid: getU64(this.view, at + EntryOut.nodeid) }),
      });
      at = (nameEnd + 7) & ~7;
    }
    return entries;
  }

  /** Lists a directory by replies of at most `length` bytes. */
  list(nodeid: number, length: number, plus = false): Entry[] {
    const fh = this.opendir(nodeid);
    const all: Entry[] = [];
    for (;;) {
      const entries = this.readdir(nodeid, fh, all.at(-1)?.next ?? 0, length, plus);
      if (entries.length === 0) break;
      all.push(...entries);
    }
    this.fs.releasedir();
    return all;
  }
}

const overlayOf = (...specs: Spec[]): Overlay =>
  new Overlay(
    specs.map((spec, i) => new FakeLayer('ABC'[i] as string, spec)),
    [],
    plainOptions,
  );
const names = (entries: readonly Entry[]): string => entries.map(entry => entry.name).join(' ');
const many = (count: number): Spec =>
  dir(Object.fromEntries(Array.from({ length: count }, (_, i) => [`file ${i}`, file(`${i}`)])));

t.test('a nodeid that the kernel was never given is ESTALE', async t => {
  const f = new Fixture(overlayOf(dir({ a: file() })));
  for (const [op, ask] of [
    ['lookup', nodeid => f.fs.lookup(nodeid, 'a', f.out)],
    ['getattr', nodeid => f.fs.getattr(nodeid, f.out)],
    ['statx', nodeid => f.fs.statx(nodeid, f.out)],
    ['readlink', nodeid => f.fs.readlink(nodeid, f.out)],
    ['access', nodeid => f.fs.access(nodeid, 4)],
    ['open', nodeid => f.fs.open(nodeid, 0, f.out, UNIQUE, false)],
    ['opendir', nodeid => f.fs.opendir(nodeid, f.out)],
    ['getxattr', nodeid => f.fs.getxattr(nodeid, 'user.a', root) as number],
    ['listxattr', nodeid => f.fs.listxattr(nodeid, root) as number],
  ] as [string, (nodeid: Nodeid) => number][]) {
    t.equal(ask(id(4711)), -ESTALE, op);
  }
  t.equal(f.fs.statfs(id(4711), f.out), Kstatfs.SIZE, 'but statfs is that of the whole');
});

t.test('what is asked of the wrong kind', async t => {
  const f = new Fixture(overlayOf(dir({ file: file(), dir: dir(), link: link('x') })));
  const [aFile, aDir, aLink] = ['/file', '/dir', '/link'].map(path => id(f.lookup(path))) as [Nodeid, Nodeid, Nodeid];
  for (const [rule, got, want] of [
    ['lookup in a file', f.fs.lookup(aFile, 'x', f.out), -ENOTDIR],
    ['lookup in a symlink', f.fs.lookup(aLink, 'x', f.out), -ENOTDIR],
    ['opendir of a file', f.fs.opendir(aFile, f.out), -ENOTDIR],
    ['open of a directory', f.fs.open(aDir, 0, f.out, UNIQUE, false), -EISDIR],
    ['readlink of a file', f.fs.readlink(aFile, f.out), -EINVAL],
    ['readlink of a directory', f.fs.readlink(aDir, f.out), -EINVAL],
    ['read of no handle', f.fs.read(aFile, 99, 0, 10, f.out, UNIQUE), -EBADF],
    ['lseek of no handle', f.fs.lseek(aFile, 99, 0, 3, f.out), -EBADF],
    ['readdir of a file', f.fs.readdir(aFile, 0, 0, 100, false, f.out), -ENOTDIR],
    ['L3: a long name', f.fs.lookup(aDir, 'x'.repeat(256), f.out), -ENAMETOOLONG],
    ['I6: access for writing', f.fs.access(aFile, 2), -EROFS],
    ['I6: access for reading', f.fs.access(aFile, 4), 0],
  ] as const) {
    t.equal(got, want, rule);
  }
  t.equal(f.fs.readlink(aLink, f.out), 1, 'readlink of a symlink');
  t.equal(byteStringOf(f.bytes, 0, 1), 'x');
});

t.test('lookups are counted, forgets count them back', async t => {
  const f = new Fixture(overlayOf(dir({ a: file(), d: dir({ b: file() }) })));
  const nodeid = id(f.lookup('/a'));
  f.lookup('/a');
  const fh = f.open(nodeid);
  f.fs.forget(nodeid, 1);
  t.equal(f.fs.getattr(nodeid, f.out), AttrOut.SIZE, 'one of two is left');
  f.fs.release(nodeid, fh);
  f.fs.forget(nodeid, 1);
  t.equal(f.fs.getattr(nodeid, f.out), -ESTALE, 'none is left');
  f.fs.forget(nodeid, 5);
  f.fs.forget(ROOT, 1000);
  t.equal(f.fs.getattr(ROOT, f.out), AttrOut.SIZE, 'the root is never forgotten');
  t.equal(f.fs.getattr(id(f.lookup('/a')), f.out), AttrOut.SIZE, 'a name that is looked up again is known again');
  t.equal(f.lookup('/'), ROOT);
});

t.test('what is not there', async t => {
  for (const [rule, negativeSeconds, size] of [
    ['a negative entry, which the kernel keeps', 7, EntryOut.SIZE],
    ['ENOENT, which it does not', 0, -ENOENT],
  ] as const) {
    const f = new Fixture(overlayOf(dir()), { cache: { ...FOR_EVER, negativeSeconds } });
    t.equal(f.fs.lookup(ROOT, 'none', f.out), size, rule);
    if (size > 0) {
      t.equal(getU64(f.view, EntryOut.nodeid), 0, 'nodeid 0');
      t.equal(getU64(f.view, EntryOut.entry_valid), 7, 'for as long as it may be kept');
    }
  }
  const broken = new Fixture(overlayOf(dir({ a: meta() }), dir()));
  t.equal(broken.lookup('/a'), -5, 'L8: EIO is no miss');
});

t.test('attributes and timeouts', async t => {
  const f = new Fixture(overlayOf(dir({ a: file('12345') })), {
    cache: { ...FOR_EVER, entrySeconds: 3, attrSeconds: 2.5 },
  });
  const nodeid = f.lookup('/a');
  t.equal(getU64(f.view, EntryOut.entry_valid), 3);
  t.equal(getU64(f.view, EntryOut.attr_valid), 2);
  t.equal(f.view.getUint32(EntryOut.attr_valid_nsec, true), 500_000_000);
  t.equal(getU64(f.view, EntryOut.attr + FuseAttr.size), 5);
  f.fs.getattr(id(nodeid), f.out);
  t.equal(getU64(f.view, AttrOut.attr + FuseAttr.size), 5, 'getattr says the same');
  t.equal(f.fs.statx(id(nodeid), f.out), StatxOut.SIZE, 'statx, too');
});

t.test('what was looked up once costs no system call', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  for (const name of ['A', 'B']) {
    const entries = { [name]: file(name, { 'user.x': name }), merged: dir({ [`in${name}`]: file(), l: link('x') }) };
    plant(join(home, name), dir(entries));
  }
  const memory = { ...DEFAULT_MEMORY, dentries: 100, attrSeconds: 3600 };
  const f = new Fixture(openOverlay(optionsOf(`${home}/A:${home}/B`), step, memory));
  const paths = ['/A', '/B', '/none', '/merged', '/merged/inA', '/merged/inB', '/merged/l', '/merged/none'];
  const answers = (): string =>
    paths
      .map(path => {
        const nodeid = f.lookup(path);
        const entry = byteStringOf(f.bytes, EntryOut.generation, EntryOut.SIZE);
        if (nodeid > 0 && !path.endsWith('none')) f.fs.getattr(id(nodeid), f.out);
        return `${path} ${entry} ${byteStringOf(f.bytes, 0, AttrOut.SIZE)}`;
      })
      .join('\n');
  const first = answers();
  for (const nodeid of paths.map(path => f.lookup(path))) f.fs.forget(id(nodeid), 99); // as the kernel drops its dentries
  const opened = descriptors();
  for (const name of ['A', 'B']) rmSync(join(home, name), { recursive: true }); // whoever asks now learns something else
  t.equal(answers(), first, 'names, misses and attributes are those of before, of directories that are gone');
  t.equal(descriptors(), opened, 'and nothing is opened');
  const without = openOverlay(optionsOf(home), step, { ...DEFAULT_MEMORY, dentries: 0, attrSeconds: 0 });
  t.equal(without.lookup(without.root, 'A'), -ENOENT, 'an overlay that remembers nothing');
  mkdirSync(join(home, 'A'));
  t.type(without.lookup(without.root, 'A'), 'object', 'which looks again each time');
  without.close();
  f.fs.destroy();
});

t.test('listings', async t => {
  const f = new Fixture(overlayOf(many(200)));
  const whole = f.list(ROOT, 1 << 16);
  t.equal(whole.length, 202, 'D5: every name, and the dots');
  t.equal(names(whole.slice(0, 3)), '. .. file 0', 'D5: the dots come first');
  t.same(
    whole.map(entry => entry.next),
    Array.from({ length: 202 }, (_, i) => i + 1),
    'the cookie is the position plus one',
  );
  t.ok(
    whole.every(entry => entry.ino > 0),
    'no d_ino is 0, which would hide the name',
  );
  t.same(f.list(ROOT, 100), whole, 'the same by small replies');
  t.equal(f.list(ROOT, 20).length, 0, 'a reply without room for one entry is empty');

  const fh = f.opendir(ROOT);
  const from = (position: number): Entry[] => f.readdir(ROOT, fh, position, 1 << 16, false);
  for (const position of [201, 0, 117, 1, 2]) t.same(from(position), whole.slice(position), `D4: from ${position} on`);
  for (const position of [202, 203, 1e9, 2 ** 63]) t.same(from(position), [], `nothing from ${position} on`);
  t.equal(f.fs.readdir(id(f.lookup('/file 0')), fh, 0, 100, false, f.out), -ENOTDIR, 'a file has no entries');
});

t.test('READDIRPLUS counts a lookup for each entry that fits, and no other', async t => {
  for (const length of [200, 500, 1000, 4096, 1 << 16]) {
    const f = new Fixture(overlayOf(many(30)));
    const fh = f.opendir(ROOT);
    const entries = f.readdir(ROOT, fh, 0, length, true);
    const told = entries.filter(({ name }) => !/^\.\.?$/.test(name)).map(({ nodeid = 0 }) => nodeid);
    t.equal(told.includes(0), false, `${length} bytes: every entry has a nodeid`);
    const known = Array.from({ length: 100 }, (_, i) => i + 2).filter(n => f.fs.getattr(id(n), f.out) > 0);
    t.same(
      known,
      told.sort((a, b) => a - b),
      `${length} bytes: what is told is known, and nothing else`,
    );
    for (const nodeid of told) f.fs.forget(id(nodeid), 1);
    t.ok(
      told.every(nodeid => f.fs.getattr(id(nodeid), f.out) === -ESTALE),
      `${length} bytes: each is counted once`,
    );
  }
});

t.test('READDIRPLUS tells the dots without attributes, and broken objects, too', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  plant(home, dir({ A: dir({ ok: file(), broken: meta(), gone: file(), bad: dir({}, { redirect: '/' }) }), B: dir() }));
  const f = new Fixture(openStack(t, `${home}/A:${home}/B`));
  const fh = f.opendir(ROOT);
  f.readdir(ROOT, fh, 0, 64, false); // the listing is made now
  rmSync(join(home, 'A', 'gone'));
  const entries = f.readdir(ROOT, fh, 1, 1 << 16, true);
  const byName = new Map(entries.map(entry => [entry.name, entry]));
  t.equal(byName.size, 5, 'D3: all are listed');
  for (const name of ['..', 'broken', 'gone', 'bad']) t.equal(byName.get(name)?.nodeid, 0, `${name}: no nodeid`);
  t.ok((byName.get('ok')?.nodeid ?? 0) > 1, 'what is well has one');
  t.equal(byName.get('broken')?.dtype, 8, 'and each its type');
});

t.test('which xattrs a caller sees', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  const xattrs = { 'trusted.a': 'T', 'user.b': 'U', 'system.posix_acl_access': ACL, 'trusted.overlay.overlay.x': 'E' };
  plant(home, dir({ A: dir({ f: file('x', xattrs) }) }));
  const overlay = openStack(t, join(home, 'A'));
  const acls = 'system.posix_acl_access ';
  for (const [rule, visible, caller, want] of [
    ['X5: root sees all', { acl: true, trusted: true }, root, `${acls}trusted.a trusted.overlay.x user.b`],
    ['X5: others see no trusted.*', { acl: true, trusted: true }, nobody, `${acls}user.b`],
    ['X5: nor root, where we could not read them', { acl: true, trusted: false }, root, `${acls}user.b`],
    ['X3: without ACLs they are not listed', { acl: false, trusted: true }, root, 'trusted.a trusted.overlay.x user.b'],
  ] as const) {
    const f = new Fixture(overlay, { visible });
    const list = f.fs.listxattr(id(f.lookup('/f')), caller);
    t.equal(typeof list === 'number' ? list : byteStringOf(list).split('\0').slice(0, -1).sort().join(' '), want, rule);
  }
  for (const [rule, visible, name, want] of [
    ['X3: an ACL', { acl: true, trusted: true }, 'system.posix_acl_access', ACL],
    ['X3: an ACL that is not there', { acl: true, trusted: true }, 'system.posix_acl_default', -ENODATA],
    ['X3: an ACL where there are none', { acl: false, trusted: true }, 'system.posix_acl_access', -EOPNOTSUPP],
    ['X2: an escaped mark', { acl: true, trusted: true }, 'trusted.overlay.x', 'E'],
    ['X2: not under its stored name', { acl: true, trusted: true }, 'trusted.overlay.overlay.x', -ENODATA],
    ['X3: any other', { acl: true, trusted: true }, 'user.b', 'U'],
  ] as const) {
    const f = new Fixture(overlay, { visible });
    const value = f.fs.getxattr(id(f.lookup('/f')), name, root);
    t.equal(typeof value === 'number' ? value : byteStringOf(value), want, rule);
  }
});

t.test('files', { skip: withoutRoot }, async t => {
  const home = scratch(t);
  plant(home, dir({ A: dir({ f: file('12345'), g: file('other') }) }));
  const f = new Fixture(openStack(t, join(home, 'A')));
  const before = descriptors();
  const nodeid = f.lookup('/f');
  const fh = f.open(nodeid);
  t.equal(f.read(fh), '12345');
  t.equal(f.fs.read(id(nodeid), fh, 3, 100, f.out, UNIQUE), 2, 'a read is short at the end');
  t.equal(f.fs.read(id(nodeid), fh, 5, 100, f.out, UNIQUE), 0, 'and empty past it');
  t.equal(f.fs.lseek(id(nodeid), fh, 0, 4, f.out), 8, 'a hole is looked for');
  t.equal(getU64(f.view, 0), 5, 'at the end of the data');
  t.equal(f.fs.lseek(id(nodeid), fh, 5, 3, f.out), -6, 'ENXIO past the end');

  renameSync(join(home, 'A', 'f'), join(home, 'A', 'old'));
  writeFileSync(join(home, 'A', 'f'), 'new');
  t.equal(f.read(fh), '12345', 'A7: an open file stays what it was');
  f.fs.release(id(nodeid), fh);
  t.throws(() => f.open(nodeid), { name: 'ESTALE' }, 'its name leads to another one: the kernel looks up again');
  t.equal(f.lookup('/old'), nodeid, 'the object is where it is found');
  t.equal(f.read(f.open(nodeid)), '12345', 'and opened there');
  f.fs.release(id(nodeid), fh + 1);
  const renewed = f.lookup('/f');
  t.not(renewed, nodeid, 'the name is that of another object');
  t.equal(f.read(f.open(renewed)), 'new', 'which has its own data');
  f.fs.release(id(renewed), fh + 2);
  f.fs.forget(id(renewed), 99);
  t.equal(descriptors(), before + 2, 'a file is kept open, and the object of the last lookup is');
  f.fs.forget(id(nodeid), 99);
  t.equal(descriptors(), before + 1, 'until the kernel forgets it');
});

t.test('directories may be kept where they cannot change', async t => {
  const image = Object.assign(new FakeLayer('A', dir()), { kind: 'image' });
  const flags = (overlay: Overlay): number => {
    const f = new Fixture(overlay);
    f.opendir(ROOT);
    return f.view.getUint32(OpenOut.open_flags, true);
  };
  t.equal(flags(overlayOf(dir())), Fopen.CACHE_DIR, 'a directory: filled anew at each open');
  t.equal(flags(new Overlay([image], [], plainOptions)), Fopen.CACHE_DIR | Fopen.KEEP_CACHE, 'an image: for ever');
});

t.test('I4: one inode under two names', async t => {
  const shared = file('shared');
  const f = new Fixture(overlayOf(dir({ a: shared, b: shared, c: file('shared') })));
  t.equal(f.lookup('/a'), f.lookup('/b'), 'a hard link has one nodeid');
  t.not(f.lookup('/a'), f.lookup('/c'), 'an equal file another');
});

t.test('the end closes everything', async t => {
  const home = scratch(t);
  mkdirSync(join(home, 'A', 'd'), { recursive: true });
  writeFileSync(join(home, 'A', 'd', 'f'), 'x');
  const before = descriptors();
  const f = new Fixture(openOverlay(optionsOf(join(home, 'A'))));
  f.open(f.lookup('/d/f'));
  t.ok(descriptors() > before, 'files, directories and layers are open');
  f.fs.destroy();
  t.equal(descriptors(), before, 'and are not when the connection has ended');
});
t.end();
