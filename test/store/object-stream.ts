/** Objects whose data comes in pieces: they have the digests of another program, and no name before they are complete. */
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { ObjectStream } from '../../src/store/object-stream.ts';
import { beginStore, endStore, objectPath } from '../../src/store/objects.ts';
import { ENOSPC } from '../../src/sys/errno.ts';
import type { Algorithm } from '../../src/verity/digest.ts';
import { fsverityDigest } from '../fixtures/images/verity.ts';
import { withExt4, withoutExt4 } from '../fixtures/mounts/ext4.ts';
import { withScratch, withScratchAsync } from '../fixtures/scratch.ts';

/** Data, as pieces of bytes and as numbers of zeros. */
type Pieces = readonly (Buffer | number)[];
const PATTERN = Buffer.from(Array.from({ length: 251 }, (_, i) => i));
const pieceOf = (bytes: number): Buffer => Buffer.alloc(bytes, PATTERN);
const wholeOf = (pieces: Pieces): Buffer =>
  Buffer.concat(pieces.map(piece => (typeof piece === 'number' ? Buffer.alloc(piece) : piece)));

const CASES: readonly (readonly [rule: string, pieces: Pieces])[] = [
  ['a small object', [pieceOf(65)]],
  ['an object in pieces', [pieceOf(4000), pieceOf(100), pieceOf(9000)]],
  ['a hole in memory', [pieceOf(10), 5000, pieceOf(10), 3]],
  ['the most that is kept in memory', [pieceOf(1 << 20)]],
  ['an object on disk', [pieceOf(1 << 20), pieceOf(1)]],
  ['a hole on disk', [pieceOf(100), 3_000_000, pieceOf(70_000), 200_000]],
  ['a hole alone', [2_000_000]],
];

function addTo(objects: ObjectStream, pieces: Pieces): { digest: string; added: string } {
  objects.begin(wholeOf(pieces).length);
  for (const piece of pieces)
    if (typeof piece === 'number') objects.hole(piece);
    else objects.write(piece);
  return objects.end();
}

/** All files below a directory. */
const filesIn = (path: string): string[] =>
  readdirSync(path, { recursive: true, withFileTypes: true }).flatMap(entry =>
    entry.isFile() ? [join(entry.parentPath, entry.name)] : [],
  );

for (const algorithm of ['sha256', 'sha512'] satisfies Algorithm[])
  withScratch(home => {
    const path = join(home, 'store');
    const store = beginStore(path);
    const objects = new ObjectStream(store, algorithm);
    for (const [rule, pieces] of CASES) {
      const source = join(home, 'source');
      writeFileSync(source, wholeOf(pieces));
      const digest = fsverityDigest(source, algorithm);
      const object = join(path, objectPath(digest));
      t.strictSame(addTo(objects, pieces), { digest, added: 'new' }, `${rule}: ${algorithm}`);
      t.notOk(existsSync(object), `${rule}: no name before it is on disk`);
      t.equal(addTo(objects, pieces).added, 'known', `${rule}: a second time`);
      objects.finish();
      t.ok(readFileSync(object).equals(wholeOf(pieces)), `${rule}: its data`);
      t.equal(statSync(object).mode & 0o7777, 0o644, `${rule}: readable by all`);
    }
    t.ok(
      statSync(join(path, objectPath(fsverityDigest(join(home, 'source'), algorithm)))).blocks < 100,
      'holes stay holes',
    );
    endStore(store);
    t.equal(filesIn(path).length, CASES.length, 'nothing else is left');
  });

withScratch(home => {
  const first = beginStore(home);
  const { digest } = addTo(new ObjectStream(first, 'sha256'), [pieceOf(5000)]);
  endStore(first);
  t.strictSame(filesIn(home), [], 'a run that ends without finish leaves nothing');
  const object = join(home, objectPath(digest));
  mkdirSync(dirname(object));
  writeFileSync(object, pieceOf(4999));
  const second = beginStore(home);
  const objects = new ObjectStream(second, 'sha256');
  t.equal(addTo(objects, [pieceOf(5000)]).added, 'replaced', 'another object in its place');
  objects.finish();
  t.ok(readFileSync(object).equals(pieceOf(5000)));
  t.equal(addTo(new ObjectStream(second, 'sha256'), [pieceOf(5000)]).added, 'known', 'of another run');
  endStore(second);
});

withScratch(home => {
  const store = beginStore(home);
  const objects = new ObjectStream(store, 'sha256');
  for (let i = 0; i < 1001; i++) addTo(objects, [Buffer.from(String(i).padStart(100))]);
  t.equal(filesIn(home).filter(name => !name.includes('.tmp-')).length, 1000, 'names are given in batches');
  objects.finish();
  t.equal(filesIn(home).filter(name => !name.includes('.tmp-')).length, 1001);
  endStore(store);
});

t.test('a full filesystem', { skip: withoutExt4 }, t =>
  withScratchAsync(async directory =>
    withExt4(directory, home => {
      const path = join(home, 'store');
      const store = beginStore(path);
      const objects = new ObjectStream(store, 'sha256');
      objects.begin(2 ** 30);
      const fill = (): void => {
        for (let i = 0; i < 1024; i++) objects.write(pieceOf(1 << 20));
      };
      t.throws(fill, { errno: ENOSPC, message: `store ${path}: No space left on device` });
      objects.abandon();
      endStore(store);
      t.strictSame(filesIn(path), [], 'nothing is left');
    }),
  ),
);
t.end();
