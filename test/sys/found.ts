/** Proves sys/found.ts: descriptors of O_PATH, whose names are changed meanwhile, against what python sees of the objects. */
import { renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { ENODATA, ENOSYS, ERANGE } from '../../src/sys/errno.ts';
import { getXattr, listXattrs, reopen } from '../../src/sys/found.ts';
import { native } from '../../src/sys/native.ts';
import { openOrThrow, python } from '../fixtures/native.ts';
import { withoutRoot } from '../fixtures/skips.ts';

const O_PATH = 0o10000000;
const O_NOFOLLOW = 0o400000;
const LONG = 'x'.repeat(3000);

/** A file and a symlink to it, each with other xattrs, that python has given them; `names` are as long as python says. */
function objects(tree: string): { file: number; link: number; names: number } {
  const [file, link] = [join(tree, 'file'), join(tree, 'link')];
  writeFileSync(file, 'contents');
  symlinkSync('file', link);
  const program = `import os, sys
file, link, long = sys.argv[1:]
os.setxattr(file, 'user.long', long.encode())
for i in range(30): os.setxattr(file, 'user.number-%d' % i, b'')
os.setxattr(link, 'trusted.own', b'of the link', follow_symlinks=False)
print(len(b''.join(os.fsencode(n) + b'\\0' for n in os.listxattr(file))))`;
  const names = Number(python(program, [file, link, LONG]));
  const opened = { file: openOrThrow(file, O_PATH), link: openOrThrow(link, O_PATH | O_NOFOLLOW), names };
  renameSync(file, join(tree, 'elsewhere'));
  writeFileSync(file, 'another file');
  return opened;
}

function prove(t: Test, { file, link, names }: ReturnType<typeof objects>): void {
  const room = new Uint8Array(1 << 16);
  const text = (length: number): string => Buffer.from(room.subarray(0, Math.max(length, 0))).toString('latin1');
  t.equal(text(getXattr(file, 'user.long', room)), LONG, 'a value with more bytes than are offered first');
  t.equal(getXattr(file, 'user.long', room.subarray(0, LONG.length - 1)), -ERANGE, 'or than there is room for');
  t.equal(getXattr(file, 'user.number-1', room), 0, 'an empty value');
  t.equal(getXattr(file, 'user.none', room), -ENODATA, 'none');
  t.equal(listXattrs(file, room), names, 'the names');
  t.equal(listXattrs(file, room.subarray(0, 8)), -ERANGE, 'with too little room');
  t.equal(text(getXattr(link, 'trusted.own', room)), 'of the link', 'a symlink itself');
  t.equal(text(listXattrs(link, room)), 'trusted.own\0', 'and its names');
}

t.test('xattrs, and the object once more', { skip: withoutRoot }, async t => {
  const found = objects(t.testdir({}));
  prove(t, found);
  const fd = reopen(found.file, 0);
  const bytes = Buffer.alloc(8);
  t.equal(native.pread(fd, bytes, 0, 8, 0), 8);
  t.equal(bytes.toString(), 'contents', 'what has another name by now');
  native.close(fd);
  t.ok(reopen(found.link, 0) < 0, 'a symlink cannot be opened, and is not followed');
});

/** A seccomp filter (struct sock_filter) that answers both calls, 464 and 465, with ENOSYS, as Linux before 6.13 does. */
function withoutXattrAt(): Uint8Array {
  const [load, jumpEqual, answer] = [0x20, 0x15, 0x06];
  const steps = [
    [load, 0, 0, 0],
    [jumpEqual, 1, 0, 464],
    [jumpEqual, 0, 1, 465],
    [answer, 0, 0, 0x00050000 | ENOSYS],
    [answer, 0, 0, 0x7fff0000],
  ] as const;
  const program = Buffer.alloc(steps.length * 8);
  for (const [i, [code, jt, jf, k]] of steps.entries()) {
    program.writeUInt16LE(code, i * 8);
    program.set([jt, jf], i * 8 + 2);
    program.writeUInt32LE(k, i * 8 + 4);
  }
  return program;
}

t.test('on a kernel without getxattrat and listxattrat', { skip: withoutRoot }, async t => {
  const found = objects(t.testdir({}));
  t.equal(native.seccomp(1, 1, withoutXattrAt()), 0, 'for the rest of this process');
  t.equal(native.listxattrat(-100, '/', 0, new Uint8Array(0)), -ENOSYS);
  prove(t, found);
});
