import { chmodSync, existsSync, lstatSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { measureFile, ObjectStore, objectPath, readContent } from '../../src/builder/objects.ts';
import { EIO } from '../../src/sys/errno.ts';
import { withScratch } from '../fixtures/scratch.ts';

const text = 'x'.repeat(5000);
/** Source: fsverity digest --compact. */
const digest = '838b2c37e0ad28bb545e3edbe665a04a8ef1b3d559fe568db29b546e4458e1d4';

withScratch(directory => {
  const source = join(directory, 'source');
  const store = join(directory, 'a', 'store');
  const object = join(store, objectPath(digest));
  writeFileSync(source, text, { mode: 0o600 });
  t.equal(objectPath(digest), `${digest.slice(0, 2)}/${digest.slice(2)}`, 'the first byte is the directory');
  t.equal(measureFile(source, 5000), digest, 'a file is measured');
  t.equal(readContent(source, 5), 'xxxxx', 'the start of a file is read');
  t.throws(
    () => readContent(source, 5001),
    { errno: EIO, message: /has fewer than 5001 bytes/ },
    'a file that became shorter is refused',
  );

  t.equal(new ObjectStore(store).add(source, 5000, digest), true, 'a first object is new');
  t.equal(readFileSync(object, 'utf8'), text, 'it has the data');
  t.equal(lstatSync(object).mode, 0o100644, 'all may read it');
  const { ino } = lstatSync(object);
  t.equal(new ObjectStore(store).add(source, 5000, digest), false, 'a second one is not');
  t.equal(lstatSync(object).ino, ino, 'it is the one that was there');

  writeFileSync(source, text.replace('x', 'y'));
  const other = '00'.repeat(32);
  t.throws(
    () => new ObjectStore(store).add(source, 5000, other),
    { errno: EIO, message: /changed while it was stored/ },
    'a file that changed is refused',
  );
  t.notOk(existsSync(join(store, objectPath(other))), 'it leaves no object');
  t.same(readdirSync(store).sort(), ['00', digest.slice(0, 2)], 'and no temporary file');
  chmodSync(source, 0o600);
});
