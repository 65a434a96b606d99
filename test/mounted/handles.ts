/** File handles of a mount, as an NFS server uses them: kept while the mount is away, and opened in the next one. */
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  type Stats,
  writeFileSync,
} from 'node:fs';
import { join, relative } from 'node:path';
import t from 'tap';
import { ESTALE } from '../../src/sys/errno.ts';
import { type Handle, openHandle, readHandle } from '../../src/sys/handles.ts';
import { native } from '../../src/sys/native.ts';
import { run } from '../fixtures/mounts/kernel-mount.ts';
import { command, withMount } from '../fixtures/mounts/mounted.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { withoutFuse } from '../fixtures/skips.ts';

t.setTimeout(120_000);

const O_PATH = 0o10000000;

/** Calls `use` with a descriptor of a directory. */
function withDirectory<T>(path: string, use: (fd: number) => T): T {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}

/** The handle of every object below a place, by its path from there. */
const handlesOf = (root: string): Map<string, Handle> =>
  withDirectory(root, fd => {
    const paths = run('find', root, '-mindepth', '1', '-printf', '%P\\n').trim().split('\n');
    return new Map(paths.map(path => [path, readHandle(fd, path) as Handle]));
  });

const wordsOf = ({ mode, ino, size }: Stats): string => `${mode.toString(8)} ${ino} ${size}`;

/** What is opened by a handle: its attributes, where it is and what is in it; or a negative errno. */
function opened(root: string, handle: Handle): unknown {
  return withDirectory(root, mount => {
    const fd = openHandle(mount, handle, O_PATH);
    if (fd < 0) return fd;
    try {
      const link = `/proc/self/fd/${fd}`;
      const stat = fstatSync(fd);
      if (stat.isDirectory()) return [wordsOf(stat), relative(root, readlinkSync(link)), readdirSync(link).sort()];
      return stat.isFile() ? [wordsOf(stat), readFileSync(link, 'latin1')] : [wordsOf(stat)];
    } finally {
      native.close(fd);
    }
  });
}

t.test('handles', { skip: withoutFuse }, async t =>
  withScratchAsync(async directory => {
    const at = (name: string): string => join(directory, name);
    mkdirSync(at('tree/a/b/c'), { recursive: true });
    mkdirSync(at('objects'));
    writeFileSync(at('tree/a/b/c/large'), 'x'.repeat(5000));
    writeFileSync(at('tree/a/small'), 'small');
    run('ln', '-s', 'a', at('tree/link'));
    run('mknod', at('tree/a/null'), 'c', '1', '3');
    command('mkfs', '--digest-store', at('objects'), at('tree'), at('image'));
    const stack = `${at('image')}::${at('objects')}`;
    const exported = [stack, '-o', 'nfs_export=on'];

    const kept = await withMount(exported, handlesOf);
    t.equal(kept.size, 7, 'every object has a handle');
    await withMount(exported, root => {
      t.same(
        opened(root, kept.get('a/b/c') as Handle)
          ?.toString()
          .split(',')
          .slice(1),
        ['a/b/c', 'large'],
        'a directory',
      );
      t.same((opened(root, kept.get('a/b/c/large') as Handle) as string[])[1], 'x'.repeat(5000), 'a file is read');
      t.same((opened(root, kept.get('a/small') as Handle) as string[])[1], 'small', 'one in the image');
      const byHandle = [...kept].map(([path, handle]) => [path, (opened(root, handle) as string[])[0]]);
      const byPath = [...kept.keys()].map(path => [path, wordsOf(lstatSync(join(root, path)))]);
      t.same(byHandle, byPath, 'each handle leads to its object');
    });

    await withMount(exported, root => {
      const { type, bytes } = kept.get('a/small') as Handle;
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      const low = view.getUint32(4, true); // of the nodeid, upper half first. Source: linux/fs/fuse/inode.c, fuse_encode_fh
      const nodeids = new Set(
        [...kept.values()].map(handle => new DataView(handle.bytes.buffer, handle.bytes.byteOffset).getUint32(4, true)),
      );
      const forged = Array.from({ length: 64 }, (_, i) => low - 32 + i).filter(
        nodeid => nodeid > 1 && !nodeids.has(nodeid),
      );
      const answers = new Set(
        [...forged, 0xffffffff].map(nodeid => {
          const other = bytes.slice();
          new DataView(other.buffer).setUint32(4, nodeid, true);
          return opened(root, { type, bytes: other });
        }),
      );
      const far = bytes.slice();
      new DataView(far.buffer).setUint32(0, 1, true); // a true number, and 2^32
      answers.add(opened(root, { type, bytes: far }));
      t.same([...answers], [-ESTALE], 'a handle of what no name leads to is stale, whatever is there');
    });

    await withMount([stack], root => {
      t.equal(opened(root, kept.get('a/small') as Handle), -ESTALE, 'without the option handles are stale');
    });
  }),
);
