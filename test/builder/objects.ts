import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import {
  beginStore,
  endStore,
  measureFile,
  measureWhole,
  ObjectStore,
  objectPath,
  readContent,
} from '../../src/builder/objects.ts';
import { EIO } from '../../src/sys/errno.ts';
import { withScratch } from '../fixtures/scratch.ts';

const text = 'x'.repeat(5000);
/** Source: fsverity digest --compact. */
const digest = '838b2c37e0ad28bb545e3edbe665a04a8ef1b3d559fe568db29b546e4458e1d4';

withScratch(directory => {
  const source = join(directory, 'source');
  const store = join(directory, 'a', 'store');
  const object = join(store, objectPath(digest));
  writeFileSync(source, text, { mode: 0o4600 });
  t.equal(objectPath(digest), `${digest.slice(0, 2)}/${digest.slice(2)}`, 'the first byte is the directory');
  t.equal(measureFile(source, 5000), digest, 'a file is measured');
  t.equal(measureWhole(source), digest, 'all of it, too');
  t.equal(readContent(source, 5), 'xxxxx', 'the start of a file is read');
  t.throws(
    () => readContent(source, 5001),
    { errno: EIO, message: /has fewer than 5001 bytes/ },
    'a file that became shorter is refused',
  );

  const staging = beginStore(store);
  const objects = new ObjectStore(store, staging);
  t.equal(lstatSync(staging).mode, 0o40700, 'copies in the making are for nobody else');
  t.equal(objects.add(source, 5000, digest), true, 'a first object is new');
  t.equal(readFileSync(object, 'utf8'), text, 'it has the data');
  t.equal(lstatSync(object).mode, 0o100644, 'all may read it');
  const { ino } = lstatSync(object);
  t.equal(objects.add(source, 5000, digest), false, 'a second one is not');
  t.equal(lstatSync(object).ino, ino, 'it is the one that was there');
  writeFileSync(object, text.slice(1));
  t.equal(objects.add(source, 5000, digest), true, 'an object of another size is replaced');
  t.equal(readFileSync(object, 'utf8'), text, 'and whole again');

  const other = '00'.repeat(32);
  for (const [rule, sizeBytes, wanted] of [
    ['a file that changed', 5000, other],
    ['a file that grew', 4999, measureFile(source, 4999)],
  ] as const) {
    const refused = { errno: EIO, message: /changed while it was stored/ };
    t.throws(() => objects.add(source, sizeBytes, wanted), refused, `refused: ${rule}`);
    t.notOk(existsSync(join(store, objectPath(wanted))), `${rule} leaves no object`);
    t.same(readdirSync(staging), [], 'and no copy');
  }

  const dead = join(store, '.tmp-dead');
  mkdirSync(dead);
  writeFileSync(join(dead, 'copy'), 'x');
  for (const path of [join(dead, 'copy'), dead]) utimesSync(path, 1, 1);
  const second = beginStore(store);
  t.notOk(existsSync(dead), 'what a dead run has left is removed');
  t.ok(existsSync(staging), 'a living run keeps its copies');
  for (const ended of [staging, second]) endStore(store, ended);
  t.notOk(
    readdirSync(store).some(name => name.startsWith('.')),
    'nothing but objects is left in the end',
  );
});
