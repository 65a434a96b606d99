/** Directories that are listed in parts, and while they change, through real mounts; beside the kernel's overlayfs. */
import { mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import * as f from '../../src/erofs/format.ts';
import { type ByteString, byteStringOf, getU64 } from '../../src/sys/bytes.ts';
import { must } from '../../src/sys/errno.ts';
import { native } from '../../src/sys/native.ts';
import { type CraftedInode, craft } from '../fixtures/images/craft.ts';
import { ForegroundMount } from '../fixtures/mounts/foreground.ts';
import { directory, regular } from '../fixtures/mounts/hostile-mount.ts';
import { withMount } from '../fixtures/mounts/mounted.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse } from '../fixtures/skips.ts';

const AT_FDCWD = -100;
const O_DIRECTORY = 0o200000;
const SEEK_SET = 0;
const MS_RDONLY = 1;
const MNT_DETACH = 2;
/** Room for some of the entries. */
const PART_BYTES = 4096;

interface Place {
  readonly name: ByteString;
  readonly ino: number;
  /** What telldir(3) says behind it. */
  readonly next: number;
}

/** An open directory. */
class Reader {
  private readonly fd: number;
  private readonly bytes = new Uint8Array(PART_BYTES);

  constructor(path: string) {
    this.fd = must(native.openat2(AT_FDCWD, path, O_DIRECTORY, 0), path);
  }

  /** What one getdents64(2) gives. */
  part(): Place[] {
    const count = must(native.getdents(this.fd, this.bytes), 'getdents');
    const view = new DataView(this.bytes.buffer);
    const places: Place[] = [];
    for (let at = 0; at < count; at += view.getUint16(at + 16, true)) {
      const name = byteStringOf(this.bytes, at + 19, this.bytes.indexOf(0, at + 19));
      places.push({ name, ino: getU64(view, at), next: getU64(view, at + 8) });
    }
    return places;
  }

  rest(): Place[] {
    const all: Place[] = [];
    for (let part = this.part(); part.length > 0; part = this.part()) all.push(...part);
    return all;
  }

  /** seekdir(3), and rewinddir(3) for 0. */
  seek(position: number): this {
    must(native.lseek(this.fd, position, SEEK_SET), 'lseek');
    return this;
  }

  close(): void {
    native.close(this.fd);
  }
}

const namesOf = (places: readonly Place[]): string[] => places.map(({ name }) => name).sort();
const COUNT = 1000;
const REMOVED = 50;
const nameAt = (i: number): string => `name ${1000 + i}`;

/** A layer `a/d` with many names, and a second layer, which has `d` as well where it is to be merged. */
function makeLayers(home: string, merged: boolean): void {
  for (const path of ['a/d', merged ? 'b/d' : 'b']) mkdirSync(join(home, path), { recursive: true });
  for (let i = 0; i < COUNT; i++) writeFileSync(join(home, 'a/d', nameAt(i)), '');
}

/** @param settleMs how long changes of a layer may take to show */
async function check(t: Test, home: string, root: string, settleMs: number): Promise<void> {
  const readers = Array.from({ length: 3 }, () => new Reader(join(root, 'd'))) as [Reader, Reader, Reader];
  try {
    await checkReaders(t, home, root, settleMs, readers);
  } finally {
    for (const reader of readers) reader.close();
  }
}

async function checkReaders(
  t: Test,
  home: string,
  root: string,
  settleMs: number,
  [inTheMiddle, atEnd, other]: [Reader, Reader, Reader],
): Promise<void> {
  atEnd.rest();
  const first = inTheMiddle.part();
  const removed = first
    .map(({ name }) => name)
    .filter(name => name.startsWith('name'))
    .slice(0, REMOVED);
  t.equal(removed.length, REMOVED, 'a reader is in the middle');
  for (const name of removed) rmSync(join(home, 'a/d', name));
  const stay = Array.from({ length: COUNT }, (_, i) => nameAt(i)).filter(name => !removed.includes(name));
  await sleep(settleMs);

  const seen = other.rest();
  t.same(namesOf(seen), ['.', '..', ...stay], 'a second reader sees what is there');
  const all = [...first, ...inTheMiddle.rest()].map(({ name }) => name);
  t.same(
    stay.filter(name => !all.includes(name)),
    [],
    'the first one misses no name that was there all the time',
  );
  t.equal(new Set(all).size, all.length, 'and sees none twice');
  t.same(atEnd.rest(), [], 'who was at the end stays there');

  const middle = seen[seen.length >> 1] as Place;
  const after = seen.slice((seen.length >> 1) + 1);
  if (middle.next < Number.MAX_SAFE_INTEGER)
    // those of ext4 are hashes of 63 bits
    t.same(other.seek(middle.next).rest(), after, 'seekdir goes to where telldir was');
  t.same(namesOf(inTheMiddle.seek(0).rest()), ['.', '..', ...stay], 'rewinddir shows what is there now');
  t.equal(
    seen.find(({ name }) => name === '.')?.ino,
    statSync(join(root, 'd')).ino,
    'd_ino of . is the number of the directory',
  );
  t.equal(seen.find(({ name }) => name === '..')?.ino, statSync(root).ino, 'and of .. that of its parent');
}

for (const [rule, merged] of [
  ['a directory of one layer', false],
  ['a merged directory', true],
] as const) {
  t.test(`${rule} changes while it is listed`, { skip: withoutFuse }, async t => {
    await withScratchAsync(async home => {
      makeLayers(home, merged);
      await withMount([`${home}/a:${home}/b`, '-o', 'attr_timeout=0.2'], root => check(t, home, root, 500));
    });
  });
}

// Overlayfs lists a merged directory as it was when it was first listed: the kernel has layers that never change.
t.test('a directory of one layer, as the kernel lists it', { skip: withoutFuse }, async t => {
  await withScratchAsync(async home => {
    makeLayers(home, false);
    const root = join(home, 'mnt');
    mkdirSync(root);
    const made = native.mount('overlay', root, 'overlay', MS_RDONLY, `lowerdir=${home}/a:${home}/b`);
    if (made < 0) return t.pass('as the kernel', { skip: 'this kernel has no overlayfs' });
    try {
      await check(t, home, root, 0);
    } finally {
      must(native.umount(root, MNT_DETACH), 'umount');
    }
  });
});

// ---- listings that are larger than all else ------------------------------------------------------------------------

const BLOCK = 4096;
const SHARED_BYTES = 8 << 20;
const DIRECTORIES = 32;

/** An image of directories that all have the same dirent blocks: 315 names in each block, 645,000 in each directory. */
function sharedDirents(): Uint8Array {
  const make = (u: number): Uint8Array => {
    const inodes: CraftedInode[] = [regular({ data: Buffer.from('fine') })];
    const names: [ByteString, number, number][] = [['fine', 1, f.FT_REG_FILE]];
    for (let i = 0; i < DIRECTORIES; i++) {
      names.push([`x${100 + i}`, i + 2, f.FT_DIR]);
      inodes.push({ ...directory([]), layout: f.LAYOUT_FLAT_PLAIN, sizeBytes: SHARED_BYTES, u });
    }
    return craft({ blockBits: 12, inodes: [directory(names), ...inodes] });
  };
  const image = make(make(1).length / BLOCK);
  const count = Math.floor(BLOCK / (f.Dirent.SIZE + 1));
  const block = Buffer.alloc(BLOCK);
  for (let i = 0; i < count; i++) {
    const at = i * f.Dirent.SIZE;
    block.writeUInt32LE(BLOCK / f.SLOT_BYTES, at + f.Dirent.nid); // inode 1
    block.writeUInt16LE(count * f.Dirent.SIZE + i, at + f.Dirent.nameoff);
    block[at + f.Dirent.file_type] = f.FT_REG_FILE;
    block[count * f.Dirent.SIZE + i] = 97 + (i % 26);
  }
  return Buffer.concat([image, Buffer.alloc(SHARED_BYTES, block)]);
}

t.test(
  'directories that share their dirents take the memory of none',
  { skip: withoutFuse, timeout: 120_000 },
  async t => {
    await withScratchAsync(async home => {
      for (const name of ['image', 'copy']) writeFileSync(join(home, name), sharedDirents());
      mkdirSync(join(home, 'b'));
      for (const [rule, stack] of [
        ['an image', `${home}/image`],
        ['an image above a directory', `${home}/image:${home}/b`],
        ['two images, whose directories are merged', `${home}/image:${home}/copy`],
      ] as const) {
        const mount = await ForegroundMount.make(stack, join(home, 'mnt'));
        try {
          const before = mount.residentBytes;
          for (let i = 0; i < DIRECTORIES; i += rule.startsWith('two') ? 16 : 1) {
            const reader = new Reader(join(mount.root, `x${100 + i}`));
            const part = reader.part();
            if (part.length < 20) t.fail(`${rule}: x${100 + i} lists ${part.length} names`);
            reader.close();
          }
          const more = (mount.residentBytes - before) >> 20;
          t.ok(more < 256, `${rule}: ${more} MiB more after the first part of each`);
          t.equal(statSync(join(mount.root, 'fine')).size, 4, 'and it answers');
          mount.signal('SIGTERM');
          t.equal(await mount.ended(), 0, 'until it is asked to end');
        } finally {
          await mount.clear();
        }
      }
    });
  },
);
