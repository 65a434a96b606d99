/** Values of overlay.origin: what is usable, and which layer it belongs to. */

import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { DirLayer } from '../../src/layers/dir.ts';
import type { Data } from '../../src/layers/layer.ts';
import { formatOrigin, parseOrigin } from '../../src/overlay/origin.ts';
import { OriginFinder } from '../../src/overlay/origin-finder.ts';
import { EPERM, EXDEV } from '../../src/sys/errno.ts';
import { type Handle, type Origin, readHandle } from '../../src/sys/handles.ts';
import { contents } from '../fixtures/dir-layer.ts';
import { dir, FakeLayer } from '../fixtures/fake-layer.ts';
import { goldenFolder } from '../fixtures/images/golden-images.ts';
import { withExt4, withFilesystem, withoutExt4, withoutFilesystem } from '../fixtures/mounts/ext4.ts';
import { run } from '../fixtures/mounts/kernel-mount.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { xattrHex } from '../fixtures/xattrs.ts';

/** As kernel overlayfs wrote it on ext4 (Linux 6.18): version, magic, len, flags, type; uuid; inode, generation. */
const written = '00fb1d0001' + '3d1c5f0e8a7b4c6d9e0f112233445566' + '0c000000' + '5f8a3b21';
const bytes = (hex: string): Uint8Array => Buffer.from(hex, 'hex');
const hex = (value: Uint8Array): string => Buffer.from(value).toString('hex');

t.test('parseOrigin', t => {
  const origin = parseOrigin(bytes(written));
  t.equal(Buffer.from(origin?.uuid ?? '', 'latin1').toString('hex'), '3d1c5f0e8a7b4c6d9e0f112233445566');
  t.equal(origin?.handle.type, 1);
  t.equal(Buffer.from(origin?.handle.bytes ?? []).toString('hex'), '0c0000005f8a3b21');

  const changed = (at: number, byte: number): Uint8Array => bytes(written).with(at, byte);
  for (const [rule, value, usable] of [
    ['of an upper file (flag 4)', changed(3, 4), true],
    ['any byte order (flag 2), whatever flag 1 says', changed(3, 3), true],
    ['bytes after its length are nothing', bytes(`${written}ff`), true],
    ['empty: copied up, origin unknown', bytes(''), false],
    ['shorter than the header', bytes(written).subarray(0, 20), false],
    ['shorter than it says', changed(2, 0x1e), false],
    ['its length is shorter than the header', changed(2, 20), false],
    ['wrong magic', changed(1, 0xfa), false],
    ['a later version', changed(0, 1), false],
    ['the other byte order', changed(3, 1), false],
    ['an unknown flag', changed(3, 8), false],
  ] as const) {
    t.equal(parseOrigin(value) !== undefined, usable, rule);
  }
  t.end();
});

t.equal(hex(formatOrigin(parseOrigin(bytes(written)) as Origin)), written, 'formatOrigin: as the kernel wrote it');

t.test('any bytes', async t => {
  const uuid = fc.uint8Array({ minLength: 16, maxLength: 16 });
  const handle = fc.uint8Array({ maxLength: 128 });
  const formatted = fc.property(uuid, fc.integer({ min: 0, max: 255 }), handle, (uuid, type, bytes) => {
    const value = formatOrigin({ uuid: Buffer.from(uuid).toString('latin1'), handle: { type, bytes } });
    const origin = parseOrigin(value);
    const isSame = origin !== undefined && hex(formatOrigin(origin)) === hex(value);
    return isSame && origin.handle.type === type && hex(origin.handle.bytes) === hex(bytes);
  });
  fc.assert(formatted, { numRuns: 500 });
  t.pass('what is formatted is parsed as it was');
  const damaged = fc.property(fc.nat(36), fc.nat(255), fc.nat(40), (at, byte, length) => {
    const value = Buffer.concat([bytes(written), Buffer.alloc(12)]).subarray(0, length);
    if (at < value.length) value[at] = byte;
    const origin = parseOrigin(value);
    return origin === undefined || (origin.uuid.length === 16 && 21 + origin.handle.bytes.length === value[2]);
  });
  fc.assert(damaged, { numRuns: 2000 });
  t.pass('what is damaged or cut is nothing, or lies inside of the value');
});

t.test('formatOrigin: files of a filesystem', { skip: withoutExt4, timeout: 60_000 }, async t => {
  await withScratchAsync(async scratch => {
    for (const uuid of ['random', 'clear'])
      await withExt4(
        scratch,
        root => {
          const layer = new DirLayer(root);
          for (const name of ['lower', 'upper', 'work', 'merged']) mkdirSync(join(root, name));
          for (const name of ['a', 'b']) writeFileSync(join(root, 'lower', name), name);
          const merged = join(root, 'merged');
          const options = `lowerdir=${root}/lower,upperdir=${root}/upper,workdir=${root}/work,metacopy=on`;
          run('mount', '-t', 'overlay', '-o', options, 'overlay', merged);
          for (const name of ['a', 'b']) chmodSync(join(merged, name), 0o600);
          for (const name of ['a', 'b']) {
            const found = originOf(layer, `lower/${name}`);
            t.equal(found, originByOracle(join(root, 'lower', name)), `uuid ${uuid}, ${name}: as oracle.py`);
            t.equal(found, originByKernel(join(root, 'upper', name)), `uuid ${uuid}, ${name}: as copy-up`);
          }
          layer.close();
        },
        { uuid },
      );
  });
});

for (const type of ['xfs', 'btrfs', 'tmpfs']) {
  const skip = withoutFilesystem(type);
  t.test(`handles of ${type}`, { skip, timeout: 60_000 }, t =>
    withScratchAsync(scratch =>
      withFilesystem(scratch, type, root => {
        for (const name of ['lower', 'upper', 'work', 'merged']) mkdirSync(join(root, name));
        writeFileSync(join(root, 'lower/a'), 'data');
        const merged = join(root, 'merged');
        const options = `lowerdir=${root}/lower,upperdir=${root}/upper,workdir=${root}/work,metacopy=on`;
        run('mount', '-t', 'overlay', '-o', options, 'overlay', merged);
        chmodSync(join(merged, 'a'), 0o600);
        run('umount', merged);
        const written = originByKernel(join(root, 'upper/a'));
        renameSync(join(root, 'lower/a'), join(root, 'moved'));
        const layer = new DirLayer(join(root, 'lower'));
        const whole = new DirLayer(root);
        t.equal(originOf(whole, 'moved'), written, 'as copy-up');
        whole.close();
        const found = new OriginFinder([layer]).open(parseOrigin(bytes(written)) as Origin);
        t.equal(typeof found === 'number' ? found : contents(found), 'data', 'and back');
        layer.close();
      }),
    ),
  );
}

function originOf(layer: DirLayer, path: string): string {
  const data = layer.openPath(path) as Data;
  const handle = readHandle(data.fd, '') as Handle;
  data.close();
  return hex(formatOrigin({ uuid: layer.uuid, handle }));
}

function originByOracle(file: string): string {
  const program = 'import oracle, sys; print(oracle.origin_xattr(sys.argv[1].encode()).hex())';
  const env = { ...process.env, PYTHONPATH: join(goldenFolder, '..', 'oracle') };
  return execFileSync('python3', ['-B', '-c', program, file], { env, encoding: 'utf8' }).trim();
}

const originByKernel = (copy: string): string => xattrHex(copy, 'trusted.overlay.origin') || 'none';

/** A layer whose handles lead to a file that tells its name. */
class HandleLayer extends FakeLayer {
  override readonly uuid: string | undefined;
  readonly answer: Data | number;

  constructor(name: string, filesystem: string, uuid: string | undefined, answer: Data | number) {
    super(name, dir(), filesystem);
    this.uuid = uuid;
    this.answer = answer;
  }

  override openHandle(): Data | number {
    return this.answer;
  }
}

t.test('OriginFinder: the filesystem with the uuid of the handle', t => {
  const file = (sizeBytes: number): Data => ({ sizeBytes }) as Data;
  const one = new HandleLayer('C', 'disk 1', '1', file(1));
  const again = new HandleLayer('A', 'disk 1', '1', file(9));
  const two = new HandleLayer('B', 'disk 2', '2', file(2));
  const twin = new HandleLayer('T', 'disk 3', '2', file(3));
  const closed = new HandleLayer('P', 'disk 4', '4', -EPERM);
  const image = new HandleLayer('I', 'image', undefined, file(5));
  const origin = (uuid: string) => ({ uuid, handle: { type: 1, bytes: bytes('') } });
  for (const [rule, layers, uuid, expected] of [
    ['the layer of that filesystem is asked', [one, two], '2', 2],
    ['the first of several on one filesystem', [one, again], '1', 1],
    ['no layer has it', [one, two], '3', -EXDEV],
    ['two filesystems have it: of neither', [two, twin], '2', -EXDEV],
    ['layers without handles are left out', [image], '', -EXDEV],
    ['what the layer says is passed on', [closed], '4', -EPERM],
  ] as const) {
    const found = new OriginFinder(layers).open(origin(uuid));
    t.equal(typeof found === 'number' ? found : found.sizeBytes, expected, rule);
  }
  t.end();
});
