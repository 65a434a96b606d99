/** Checks a composefs image whose objects have fs-verity: objects are changed, read, and damaged below the filesystem. */
import { mkdirSync, readFileSync, readSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { checkRows, type Row, reading } from './check-rows.ts';
import { guard, shimDigest } from './check-shim.ts';
import {
  bytesReadBy,
  check,
  contentOf,
  DISK,
  kernelDigest,
  lowerdata,
  olderThan,
  orErrno,
  run,
  skip,
  withErofs,
  withLowerdata,
  withOpen,
  withOverlayfs,
} from './guest.ts';

const OBJECTS = `${DISK}/objects`;
const TREE = `${DISK}/tree`;
const IMAGE = `${DISK}/image.cfs`;
const LARGE_BYTES = 1 << 20;
/** Files up to this size are stored in the image. */
const INLINE_BYTES_MAX = 64;

const rows: readonly Row[] = [
  ['an empty file', 'size-0', 'content'],
  ['a file that is in the image', 'size-1', 'content'],
  ['an object with fs-verity, as mkfs made it', 'size-65', 'content'],
  ['a byte less than a block', 'size-4095', 'content'],
  ['a block', 'size-4096', 'content'],
  ['a byte more than a block', 'size-4097', 'content'],
  ['two levels of hashes', `size-${LARGE_BYTES}`, 'content'],
  ['other content with fs-verity', 'other-guarded', 'EIO'],
  ['other content without fs-verity', 'other', 'EIO'],
  ['the content without fs-verity, of which we compute the digest', 'bare', 'content', 'EIO'],
  ['the content with fs-verity of SHA-512, the same', 'sha512', 'content', 'EIO'],
  ...(olderThan(6, 3) ? [] : [['the content with fs-verity of smaller blocks', 'small-blocks', 'EIO'] as const]),
  ['less than the content, with fs-verity', 'cut', 'EIO'],
  ['no object', 'missing', 'ENOENT'],
  ['a metacopy without digest', 'no-digest', 'EIO'],
];

/** The changes to the objects of some files after mkfs. */
const changes: Record<string, (object: string, content: Buffer) => void> = {
  'other-guarded': (object, content) => replace(object, changed(content)) ?? guard(object),
  other: (object, content) => replace(object, changed(content)),
  bare: replace,
  sha512: (object, content) => replace(object, content) ?? guard(object, 'sha512'),
  'small-blocks': (object, content) => replace(object, content) ?? guard(object, 'sha256', 1024),
  cut: (object, content) => replace(object, content.subarray(1)) ?? guard(object),
  missing: object => rmSync(object),
  'large-bare': replace,
};

/** Replaces a file by another one, because a file with fs-verity cannot be written. */
function replace(object: string, content: Uint8Array): void {
  rmSync(object);
  writeFileSync(object, content);
}

const changed = (content: Buffer): Buffer => Buffer.from(content).fill('!', 0, 1);

const sizeOf = (name: string): number => Number(/^size-(\d+)$/.exec(name)?.[1] ?? 9000);
const large = `size-${LARGE_BYTES}`;
const contents = new Map<string, Buffer>(rows.map(([, name]) => [name, contentOf(name, sizeOf(name))]));
for (const name of ['large-bare', 'damaged']) contents.set(name, contentOf(name, LARGE_BYTES));

/** Makes the image and its objects by mkfs, then removes one digest from the image by way of a dump. */
export function makeImage(): void {
  mkdirSync(TREE);
  for (const [name, content] of contents) writeFileSync(`${TREE}/${name}`, content);
  lowerdata('mkfs', `--digest-store=${OBJECTS}`, TREE, `${IMAGE}.whole`);
  const dump = lowerdata('info', 'dump', `${IMAGE}.whole`);
  const digestField = /^(\/no-digest (?:\S+ ){9})[0-9a-f]{64}/m; // the eleventh field; composefs-dump(5)
  check('a dump of the image has the digest of each file', digestField.test(dump), true);
  writeFileSync(`${DISK}/dump`, `${dump.replace(digestField, '$1-')}\n`);
  const digest = lowerdata('mkfs', '--from-file', '--print-digest', `${DISK}/dump`, IMAGE);
  guard(IMAGE);
  check('mkfs --print-digest is what the kernel measures of the image', `sha256:${digest}`, kernelDigest(IMAGE));
}

export function checkObjects(): void {
  const names = lowerdata('info', 'objects', `${IMAGE}.whole`).split('\n');
  const paths = names.map(name => `${OBJECTS}/${name}`);
  const digests = names.map(name => `sha256:${name.replace('/', '')}`);
  const files = [...contents.values()].filter(({ length }) => length > INLINE_BYTES_MAX);
  check('each file of more than 64 bytes has an object', names.length, files.length);
  check('each object has fs-verity, with the digest that is its name', paths.map(kernelDigest), digests);
  const answers = paths.map(path => shimDigest(path));
  check('measureVerity says so, too', answers, digests);
  const computed = lowerdata('info', 'measure-file', ...paths).replace(/^/gm, 'sha256:');
  check('lowerdata info measure-file says so, too', computed.split('\n'), digests);
}

/** The path of a file's object, by the digest that the program fsverity computes. */
function objectOf(name: string): string {
  const digest = run('fsverity', 'digest', '--compact', `${TREE}/${name}`);
  return `${OBJECTS}/${digest.slice(0, 2)}/${digest.slice(2)}`;
}

function withKernel<T>(options: string, use: (root: string) => T): T {
  return withErofs(IMAGE, erofs => withOverlayfs(`${options},lowerdir=${erofs}::${OBJECTS}`, use));
}

export function checkImage(): void {
  for (const [name, change] of Object.entries(changes)) {
    const content = contents.get(name);
    if (content) change(objectOf(name), content);
  }
  const options = [`basedir=${OBJECTS}`, `digest=${kernelDigest(IMAGE).replace('sha256:', '')}`];
  checkRows('an image', rows, { contents, source: IMAGE, options, withOverlayfs: withKernel });
}

/** More than the kernel's requests and other small reads take, and less than a large file. */
const FEW_BYTES = 65_536;

/** Whether the daemon read a large file, and read it only once: false if it did not, a text if it read another amount. */
function readsLarge(act: () => void): boolean | string {
  const bytes = bytesReadBy(act);
  if (bytes < FEW_BYTES) return false;
  return (bytes >= LARGE_BYTES && bytes < LARGE_BYTES + FEW_BYTES) || `${bytes} bytes`;
}

export function checkReads(): void {
  const options = [`basedir=${OBJECTS}`, 'verity=require'];
  const open = (path: string) => (): void => withOpen(path, 'r', () => {});
  const read = (path: string) => (): void => void readFileSync(path);
  withLowerdata(IMAGE, options, root => {
    check('opening an object with fs-verity reads nothing of it', readsLarge(open(`${root}/${large}`)), false);
    check('opening one without reads all of it', readsLarge(open(`${root}/large-bare`)), true);
    check('opening that again reads nothing', readsLarge(open(`${root}/large-bare`)), false);
    const rule = 'with passthrough the kernel reads the object itself';
    const tooOld = olderThan(6, 9);
    if (tooOld) skip(rule, `${tooOld}, the first with passthrough`);
    else check(rule, readsLarge(read(`${root}/${large}`)), false);
  });
  withLowerdata(IMAGE, [...options, 'passthrough=off'], root => {
    check('without passthrough we read it', readsLarge(read(`${root}/${large}`)), true);
  });
}

const BLOCK_BYTES = 4096;
const DAMAGED_BLOCK = 77;

/** Damages a block of an object on the device, and checks that fs-verity detects it. */
export function checkDamage(device: string, mountDisk: () => void): void {
  const object = objectOf('damaged');
  run('umount', DISK);
  const place = Number(run('debugfs', '-R', `bmap ${object.slice(DISK.length)} ${DAMAGED_BLOCK}`, device));
  check('the block to damage has a place on the device', place > 0, true);
  withOpen(device, 'r+', fd => writeSync(fd, Buffer.alloc(BLOCK_BYTES, '!'), 0, BLOCK_BYTES, place * BLOCK_BYTES));
  mountDisk();
  for (const passthrough of ['auto', 'off']) {
    const options = [`basedir=${OBJECTS}`, 'verity=require', `passthrough=${passthrough}`];
    const rule = `a block damaged on the device, passthrough=${passthrough}: it alone, and the file as a whole, is EIO`;
    check(rule, withLowerdata(IMAGE, options, damage), DAMAGE);
  }
  const rule = 'a block damaged on the device: overlayfs says the same';
  const tooOld = olderThan(6, 6);
  if (tooOld) skip(rule, tooOld);
  else check(rule, withKernel('metacopy=on,redirect_dir=on,verity=require', damage), DAMAGE);
}
const DAMAGE = [[`block ${DAMAGED_BLOCK}: EIO`], 'EIO'];

/** Lists the blocks that differ when read one by one, and the result of reading the whole file. */
function damage(root: string): unknown {
  const path = `${root}/damaged`;
  const content = contents.get('damaged') as Buffer;
  const block = Buffer.alloc(BLOCK_BYTES);
  const blockAt = (fd: number, at: number): string => {
    readSync(fd, block, 0, block.length, at);
    return block.equals(content.subarray(at, at + block.length)) ? 'content' : 'other data';
  };
  const blocks = orErrno(() =>
    withOpen(path, 'r', fd =>
      Array.from({ length: LARGE_BYTES / BLOCK_BYTES }, (_, i) => orErrno(() => blockAt(fd, i * BLOCK_BYTES)))
        .map((result, i) => `block ${i}: ${result}`)
        .filter(line => !line.endsWith(' content')),
    ),
  );
  return [blocks, reading(path, content)];
}
