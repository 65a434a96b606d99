/**
 * Every case of the kernel's conformance corpus that needs no filesystem of its own, looked up without a mount.
 * What only a mount can show (listxattr of another user, operations on open files, whole-stack errors) is left to
 * test/mounted/conformance.ts.
 */
import { createHash } from 'node:crypto';
import t from 'tap';
import type { Node } from '../../src/overlay/node.ts';
import type { Overlay } from '../../src/overlay/overlay.ts';
import type { ByteString } from '../../src/sys/bytes.ts';
import { ErrnoError, errnoName } from '../../src/sys/errno.ts';
import {
  isDirectory,
  isRegular,
  isSymlink,
  rdevMajor,
  rdevMinor,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
} from '../../src/sys/stat.ts';
import { type Case, type Fields, materialised, stackOf, unescapeText } from '../fixtures/corpus-stacks.ts';
import { withoutRoot } from '../fixtures/skips.ts';

/** Shown by stat(2) or a listing of the mounted tree, or by another user, and not compared here. */
const ELSEWHERE = ['statfs_namelen', 'd_type', 'nobody', 'ino_of', 'd_ino_differs', 'seek_end', 'dev_differs'];
/** The kernel opens a layer before it reads the next option; we read all options first. Both refuse the mount. */
const OTHER_ERRNO = ['limits-and-errors.json:unescaped-comma'];
const TYPES = new Map([
  [S_IFIFO, 'fifo'],
  [S_IFCHR, 'chr'],
  [S_IFDIR, 'dir'],
  [S_IFBLK, 'blk'],
  [S_IFREG, 'reg'],
  [S_IFLNK, 'symlink'],
  [S_IFSOCK, 'sock'],
]);

class Dump {
  private readonly overlay: Overlay;
  private readonly tree: Record<string, Fields> = {};
  private readonly inodes = new Map<number, string[]>();

  constructor(overlay: Overlay) {
    this.overlay = overlay;
  }

  /** The tree as the corpus spells it: what is listed, and what is not listed but found among `probes`. */
  run(probes: readonly string[]): Record<string, Fields> {
    this.visit('.', this.overlay.root, {});
    for (const probe of probes) this.probe(unescapeText(probe));
    for (const paths of this.inodes.values()) {
      const [first, ...others] = paths.sort();
      for (const path of others) (this.tree[path] as Fields).same_ino_as = first;
    }
    return this.tree;
  }

  private visit(path: ByteString, node: Node, extra: Fields): void {
    const record: Fields = { ...this.record(node), ...extra };
    this.tree[escapeName(path)] = record;
    const { ino } = node;
    this.inodes.set(ino, [...(this.inodes.get(ino) ?? []), escapeName(path)]);
    if (!isDirectory(node.top.mode)) return;
    for (const { name } of this.overlay.list(node)) this.enter(path, node, name, {}, extra);
  }

  private enter(path: ByteString, parent: Node, name: ByteString, broken: Fields, extra: Fields): void {
    const below = path === '.' ? name : `${path}/${name}`;
    if (this.tree[escapeName(below)]) return;
    const found = this.overlay.lookup(parent, name);
    if (typeof found !== 'number') this.visit(below, found, extra);
    else this.tree[escapeName(below)] = { lookup_errno: errnoName(found), ...broken };
  }

  private probe(path: ByteString): void {
    let at: Node = this.overlay.root;
    const names = path.split('/');
    for (const [i, name] of names.entries()) {
      const here = names.slice(0, i).join('/') || '.';
      if (this.tree[escapeName(names.slice(0, i + 1).join('/'))]?.lookup_errno) return;
      const found = this.overlay.lookup(at, name);
      if (typeof found === 'number') {
        if (errnoName(found) !== 'ENOENT') this.enter(here, at, name, { unlisted: true }, {});
        return;
      }
      if (i === names.length - 1) this.enter(here, at, name, {}, { unlisted: true });
      if (!isDirectory(found.top.mode)) return;
      at = found;
    }
  }

  private record(node: Node): Fields {
    const { overlay } = this;
    const attr = overlay.attr(node);
    const record: Fields = {
      type: TYPES.get(attr.mode & S_IFMT),
      mode: (attr.mode & 0o7777).toString(8).padStart(4, '0'),
      uid: attr.uid,
      gid: attr.gid,
      nlink: attr.nlink,
      mtime: [attr.mtime, attr.mtimensec],
    };
    if (isRegular(attr.mode) || isSymlink(attr.mode)) record.size = attr.size;
    if (record.type === 'chr' || record.type === 'blk') record.rdev = `${rdevMajor(attr.rdev)}:${rdevMinor(attr.rdev)}`;
    if (isSymlink(attr.mode)) record.target = escapeName(overlay.readlink(node));
    const names = overlay.listxattr(node).sort();
    const value = (name: ByteString): string | Fields => {
      const bytes = overlay.getxattr(node, name);
      return typeof bytes === 'number' ? { errno: errnoName(bytes) } : valueText(Buffer.from(bytes));
    };
    if (names.length > 0) record.xattrs = Object.fromEntries(names.map(name => [name, value(name)]));
    return isRegular(attr.mode) ? { ...record, ...this.content(node) } : record;
  }

  private content(node: Node): Fields {
    try {
      const data = this.overlay.open(node);
      if (typeof data === 'number') return { open_errno: errnoName(data) };
      const bytes = Buffer.alloc(data.sizeBytes);
      data.read(bytes, 0, bytes.length, 0);
      data.close();
      if (bytes.length <= 128 && bytes.every(b => (b >= 0x20 && b <= 0x7e) || b === 10)) {
        return { content: valueText(bytes) };
      }
      return { content_sha256: createHash('sha256').update(bytes).digest('hex'), read_len: bytes.length };
    } catch (error) {
      if (error instanceof ErrnoError) return { open_errno: errnoName(error.errno) };
      throw error;
    }
  }
}

const escapeName = (name: ByteString): string =>
  name.replace(/[^!-~]|%/g, c => `%${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`);

function valueText(bytes: Buffer): string {
  if (bytes.length === 0) return '';
  if (!bytes.every(b => (b >= 0x20 && b <= 0x7e) || b === 10)) return `0x${bytes.toString('hex')}`;
  const text = bytes.toString('latin1').replaceAll('%', '%25').replaceAll('\n', '%0A');
  return text.startsWith('0x') ? `%30${text.slice(1)}` : text;
}

function observe({ case: { stack, proposed }, probes }: Case): Fields {
  let overlay: Overlay;
  try {
    overlay = stackOf(stack, proposed ? 'lowerdata' : 'kernel');
  } catch (error) {
    if (error instanceof ErrnoError) return { mount_errno: errnoName(error.errno) };
    throw error;
  }
  const tree = new Dump(overlay).run(probes);
  overlay.close();
  return { tree };
}

/** What the corpus expects, without what is compared elsewhere or not insisted on. */
function comparable(tree: Record<string, Fields>, soft: readonly string[]): Record<string, Fields> {
  const entries = Object.entries(tree).filter(([path]) => !soft.includes(path));
  return Object.fromEntries(
    entries.map(([path, record]) => [
      path,
      Object.fromEntries(
        Object.entries(record).filter(([key]) => !ELSEWHERE.includes(key) && key !== 'unlisted_xattrs'),
      ),
    ]),
  );
}

t.test('the conformance corpus, without a mount', { skip: withoutRoot }, t => {
  const home = process.cwd();
  for (const one of materialised(t)) {
    const { expect, proposed, soft_paths = [] } = one.case;
    process.chdir(one.base);
    const got = observe(one);
    if (OTHER_ERRNO.includes(one.name)) t.ok(expect.mount_errno && got.mount_errno, one.name);
    else if (expect.mount_errno ?? got.mount_errno) t.equal(got.mount_errno, expect.mount_errno, one.name);
    else if (expect.tree) {
      const seen = comparable(got.tree as Record<string, Fields>, soft_paths);
      t.strictSame(seen, comparable(expect.tree, soft_paths), proposed ? `proposed: ${one.name}` : one.name);
    }
  }
  process.chdir(home);
  t.end();
});
