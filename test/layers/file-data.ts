import { appendFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { FileData } from '../../src/layers/file-data.ts';
import { byteStringOf } from '../../src/sys/bytes.ts';
import { scratch } from '../fixtures/layers.ts';
import { descriptors, openOrThrow, python } from '../fixtures/native.ts';

const SEEK_DATA = 3;
const SEEK_HOLE = 4;

t.test('reads', async t => {
  const path = join(scratch(t), 'f');
  writeFileSync(path, '0123456789');
  const data = new FileData(openOrThrow(path), '/', path);
  for (const [rule, at, length, position, count, want] of [
    ['from the start', 0, 10, 0, 10, '0123456789______'],
    ['to a place', 3, 4, 2, 4, '___2345_________'],
    ['short at the end', 0, 10, 7, 3, '789_____________'],
    ['nothing at the end', 0, 10, 10, 0, '________________'],
    ['nothing past it', 0, 10, 2 ** 40, 0, '________________'],
    ['nothing', 5, 0, 0, 0, '________________'],
  ] as const) {
    const out = Buffer.from('_'.repeat(16));
    t.equal(data.read(out, at, length, position), count, rule);
    t.equal(byteStringOf(out), want, `${rule}: and no other byte`);
  }
  t.equal(data.read(new Uint8Array(1), 0, 1, -1), -22, 'EINVAL before the start');
  data.close();
});

t.test('what changes shows', async t => {
  const path = join(scratch(t), 'f');
  writeFileSync(path, '123');
  const data = new FileData(openOrThrow(path), '/', path);
  const first = data.version;
  t.strictSame([data.sizeBytes, data.version], [3, first], 'nothing has');
  appendFileSync(path, '45');
  t.equal(data.sizeBytes, 5);
  t.not(data.version, first);
  truncateSync(path, 0);
  t.equal(data.sizeBytes, 0);
  rmSync(path);
  t.equal(data.sizeBytes, 0, 'a file without a name is still a file');
  data.close();
});

t.test('holes, as python finds them', async t => {
  const path = join(scratch(t), 'f');
  writeFileSync(path, '');
  truncateSync(path, 1 << 20);
  python("import sys\nf = open(sys.argv[1], 'r+b'); f.seek(1 << 18); f.write(b'x' * 5000)", [path]);
  const data = new FileData(openOrThrow(path), '/', path);
  const offsets = [0, 100, 1 << 18, (1 << 18) + 4999, 1 << 19, (1 << 20) - 1, 1 << 20, 1 << 21];
  const wanted = python(
    `import json, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
def seek(o, w):
    try: return os.lseek(fd, o, w)
    except OSError as e: return -e.errno
print(json.dumps([[seek(o, os.SEEK_DATA), seek(o, os.SEEK_HOLE)] for o in json.loads(sys.argv[2])]))`,
    [path, JSON.stringify(offsets)],
  );
  t.strictSame(
    offsets.map(offset => [data.seek(offset, SEEK_DATA), data.seek(offset, SEEK_HOLE)]),
    JSON.parse(wanted),
  );
  const out = new Uint8Array(1);
  data.read(out, 0, 1, 1 << 18);
  t.equal(byteStringOf(out), 'x', 'a read has a place of its own');
  data.close();
});

t.test('a closed file', async t => {
  const path = join(scratch(t), 'f');
  writeFileSync(path, '123');
  const before = descriptors();
  const data = new FileData(openOrThrow(path), '/', path);
  t.equal(descriptors(), before + 1);
  data.close();
  t.equal(descriptors(), before, 'has no descriptor');
});
t.end();
