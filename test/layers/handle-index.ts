/** Proves src/layers/handle-index.ts, `lowerdata index`, and how a directory layer uses what they make. */
import { copyFileSync, mkdirSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { formatHandleIndex, HANDLE_INDEX, HandleIndex, handleText } from '../../src/layers/handle-index.ts';
import { asNobody } from '../fixtures/dir-layer.ts';
import { scratch } from '../fixtures/layers.ts';
import { noProgram, run } from '../fixtures/mounts/kernel-mount.ts';
import { python } from '../fixtures/native.ts';
import { runCommand } from '../fixtures/run-command.ts';
import { withoutRoot } from '../fixtures/skips.ts';

const UUID = '0123456789abcdef';
const handle = (text: string, type = 1) => ({ type, bytes: Buffer.from(text, 'latin1') });

t.test('what is found', async t => {
  const entries = [
    ['short', 'a'],
    ['longer', 'b/c'],
    ['longer still', 'd with spaces/\n'],
    ['', 'empty'],
    ['\x00\xff', '\xff'],
  ] as const;
  const bytes = formatHandleIndex(
    UUID,
    entries.map(([of, path]) => [handleText(handle(of)), path] as const),
  );
  const index = HandleIndex.parse(bytes, UUID) as HandleIndex;
  for (const [of, path] of entries) t.equal(index.find(handle(of)), path, JSON.stringify(of));
  for (const [rule, wanted] of [
    ['the start of one', handle('long')],
    ['one with more', handle('shorter')],
    ['another type', handle('short', 2)],
    ['a type that is negative', handle('short', -1)],
    ['bytes that are nowhere', handle('zzzzzzzz')],
  ] as const) {
    t.equal(index.find(wanted), undefined, rule);
  }
  t.equal(HandleIndex.parse(bytes, 'another uuid ...'), undefined, 'an index of another filesystem is none');
  t.equal(HandleIndex.parse(Buffer.from('something else\n'), UUID), undefined, 'nor is another file');
  t.equal(HandleIndex.parse(Buffer.alloc(0), UUID), undefined, 'nor an empty one');
});

t.test('all sizes', async t => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.string({ unit: 'grapheme-ascii' })), fc.string(), (names, other) => {
      const index = HandleIndex.parse(
        formatHandleIndex(
          UUID,
          names.map(name => [handleText(handle(name)), `path of ${name}`] as const),
        ),
        UUID,
      ) as HandleIndex;
      for (const name of names) if (index.find(handle(name)) !== `path of ${name}`) return false;
      return names.includes(other) || index.find(handle(other)) === undefined;
    }),
  );
  t.pass('every handle leads to its path, and no other to any');
});

t.test('whatever the bytes are', async t => {
  const whole = formatHandleIndex(UUID, [
    [handleText(handle('a')), 'x'],
    [handleText(handle('b')), 'y'],
  ]);
  fc.assert(
    fc.property(fc.nat(whole.length), fc.uint8Array({ maxLength: 40 }), (at, noise) => {
      const spoilt = Buffer.concat([whole.subarray(0, at), noise]);
      const found = HandleIndex.parse(spoilt, UUID)?.find(handle('b'));
      return found === undefined || typeof found === 'string';
    }),
  );
  t.pass('a search ends, and reads nothing past them');
});

/** Handles as Python asks the kernel for them, by path below a directory: `type hex`. */
function handlesOf(directory: string, ...paths: string[]): string[] {
  const program = `
import ctypes, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
for path in sys.argv[2:]:
    h = ctypes.create_string_buffer(struct.pack('Ii', 128, 0) + bytes(128)); m = ctypes.c_int()
    assert libc.name_to_handle_at(-100, (sys.argv[1] + '/' + path).encode(), h, ctypes.byref(m), 0) == 0, ctypes.get_errno()
    size, kind = struct.unpack_from('Ii', h); print(kind, h.raw[8:8 + size].hex())`;
  return python(program, [directory, ...paths])
    .trim()
    .split('\n');
}

/** A filesystem of its own, for as long as the test lasts. */
function ext4(t: Test): string {
  const image = join(scratch(t), 'ext4');
  const place = scratch(t);
  writeFileSync(image, '');
  truncateSync(image, 1 << 25);
  run('mkfs.ext4', '-q', image);
  run('mount', '-o', 'loop', image, place);
  t.teardown(() => run('umount', place));
  return place;
}

t.test(
  'the command, and a layer of an ordinary user',
  { skip: withoutRoot || noProgram('mkfs.ext4') || false },
  async t => {
    const home = ext4(t); // which has a uuid
    const objects = join(home, 'objects');
    mkdirSync(join(objects, 'ab'), { recursive: true });
    for (const name of ['one', 'two', 'gone', 'moved']) writeFileSync(join(objects, 'ab', name), `data of ${name}`);
    writeFileSync(join(home, 'outside'), 'outside');
    symlinkSync('../../outside', join(objects, 'ab', 'link'));
    const handles = handlesOf(objects, 'ab/one', 'ab/two', 'ab/gone', 'ab/moved');
    const open = (index: number): string =>
      asNobody(`
const [type, hex] = ${JSON.stringify(handles[index])}.split(' ');
const data = new DirLayer(${JSON.stringify(objects)}).openHandle({ type: Number(type), bytes: Buffer.from(hex, 'hex') });
if (typeof data === 'number') console.log(data);
else { const out = Buffer.alloc(data.sizeBytes); data.read(out, 0, out.length, 0); console.log(out.toString()); }`).trim();

    t.equal(open(0), '-1', 'without an index: EPERM');
    const made = runCommand(['index', objects]);
    t.match(made, { status: 0, stdout: `${objects}: 4 files\n` }, 'the command says how many files there are');
    t.equal(open(0), 'data of one', 'with one: the file');
    t.equal(open(1), 'data of two', 'each by its handle');

    rmSync(join(objects, 'ab', 'gone'));
    t.equal(open(2), '-2', 'a file that is gone: ENOENT');
    writeFileSync(join(objects, 'ab', 'gone'), 'another');
    t.equal(open(2), '-116', 'another one in its place is not it: ESTALE');
    renameSync(join(objects, 'ab', 'moved'), join(objects, 'moved'));
    t.equal(open(3), '-2', 'a file that was moved is not found');
    t.equal(runCommand(['index', objects]).status, 0, 'until the index is made again');
    t.equal(open(3), 'data of moved');

    const uuid =
      /^lowerdata handles 1 ([0-9a-f]{32})$/m.exec(runCommand(['cat', objects, HANDLE_INDEX]).stdout)?.[1] ?? '';
    const lead = (path: string): void => {
      const [type = '', hex = ''] = (handles[0] as string).split(' ');
      const key = handleText({ type: Number(type), bytes: Buffer.from(hex, 'hex') });
      writeFileSync(
        join(objects, HANDLE_INDEX),
        formatHandleIndex(Buffer.from(uuid, 'hex').toString('latin1'), [[key, path]]),
      );
    };
    for (const [rule, path, want] of [
      ['what leads out of the layer', '../outside', '-18'],
      ['an absolute path', '/etc/passwd', '-18'],
      ['a symlink', 'ab/link', '-2'],
      ['another file', 'ab/two', '-116'],
      ['the right one', 'ab/one', 'data of one'],
    ] as const) {
      lead(path);
      t.equal(open(0), want, `an index is not believed: ${rule}`);
    }
    copyFileSync('/dev/null', join(objects, HANDLE_INDEX));
    t.equal(open(0), '-1', 'an empty index is none');
  },
);
t.end();
