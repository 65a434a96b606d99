/** Initial trees as lines of composefs-dump(5), and images that our own writer makes of them. */
import { linesOf, parseDump } from '../../src/composefs/dumpfile.ts';
import { type Row, StagedInodes } from '../../src/composefs/staged.ts';
import type { TreeInode } from '../../src/composefs/tree.ts';
import { writeStaged } from '../../src/composefs/write.ts';
import { type ByteString, bufferOf } from '../../src/sys/bytes.ts';
import { isDirectory, isSymlink } from '../../src/sys/stat.ts';
import type { Random } from './target.ts';

/** Names that recur in other directories, layers, redirects and link targets. */
export const NAMES: readonly ByteString[] = ['a', 'b', 'c', 'd', 'aa', '\xe4', '=x y\\', '\x01', 'n'.repeat(255)];

/** Chooses the xattrs of an inode with a given mode; trees differ mainly by this. */
export type Xattrs = (random: Random, mode: number) => readonly (readonly [name: ByteString, value: ByteString])[];

const SIZES = [1, 31, 4095, 4096, 4097, 70_000, 2 ** 32, 2 ** 43 + 1, 2 ** 53 - 1];
const CONTENT_SIZES = [1, 100, 2048, 2049, 4095, 4096, 5000];
const TIMES = ['0.0', '1700000000.999999999', '-1.5', '9007199254740991.0'];
const DIGEST = 'ab'.repeat(32);

/** An independent implementation of the escapes, to test that of the printer. */
const escaped = (bytes: ByteString): ByteString =>
  bytes.replace(/[^\w./-]/g, byte => `\\x${byte.charCodeAt(0).toString(16).padStart(2, '0')}`);

/** Random names and inodes, the root first. Sizes and contents are chosen so that every data layout occurs. */
export function makeDump(random: Random, xattrs: Xattrs, inodes = 40): ByteString[] {
  const lines = [line('/', '4096 40755', random, '- - -', xattrs(random, 0o40755))];
  const directories: ByteString[] = [''];
  const files: ByteString[] = [];
  const taken = new Set<ByteString>();
  for (let i = random.below(inodes); i > 0; i--) {
    const path = `${random.pick(directories)}/${random.oneIn(4) ? `f${i}` : random.pick(NAMES)}`;
    if (taken.has(path)) continue;
    taken.add(path);
    const kind = random.below(8);
    if (kind < 3) {
      directories.push(path);
      lines.push(line(path, '4096 40755', random, '- - -', xattrs(random, 0o40755)));
    } else if (kind === 3 && files.length > 0) {
      lines.push(line(path, '0 @100644', random, `${escaped(random.pick(files))} - -`, []));
    } else {
      if (kind > 4) files.push(path);
      lines.push(kind > 4 ? fileLine(path, random, xattrs) : specialLine(path, random, xattrs));
    }
  }
  return lines;
}

function line(
  path: ByteString,
  sizeAndMode: string,
  random: Random,
  rest: string,
  xattrs: ReturnType<Xattrs>,
): ByteString {
  const owner = random.pick(['0 0', '1000 65536']);
  const text = xattrs.map(([name, value]) => ` ${escaped(name)}=${escaped(value)}`).join('');
  const rdev = /[26]0[0-7]{3}$/.test(sizeAndMode) ? random.pick([0, 0, 259]) : 0;
  return `${escaped(path)} ${sizeAndMode} 1 ${owner} ${rdev} ${random.pick(TIMES)} ${rest}${text}`;
}

function fileLine(path: ByteString, random: Random, xattrs: Xattrs): ByteString {
  const chosen = xattrs(random, 0o100644);
  if (random.oneIn(3)) return line(path, '0 100644', random, '- - -', chosen);
  if (random.oneIn(2)) {
    const content = String.fromCharCode(random.below(256)).repeat(random.pick(CONTENT_SIZES));
    return line(path, `${content.length} 100644`, random, `- ${escaped(content)} -`, chosen);
  }
  const data = random.pick(['-', 'a', 'a/b', 'd/c', DIGEST]);
  return line(path, `${random.pick(SIZES)} 100644`, random, `${data} - ${random.pick(['-', DIGEST])}`, chosen);
}

function specialLine(path: ByteString, random: Random, xattrs: Xattrs): ByteString {
  if (random.oneIn(2)) return line(path, '0 20000', random, '- - -', xattrs(random, 0o20000));
  if (random.oneIn(3)) return line(path, '0 10644', random, '- - -', xattrs(random, 0o10644));
  const target = random.pick(['a', '/a/b', '../d', 'x'.repeat(4000), '/'.repeat(300)]);
  return line(path, `${target.length} 120777`, random, `${target} - -`, xattrs(random, 0o120777));
}

/** User xattrs, some shared by many inodes, with names and values that a dump has to escape. */
export const plainXattrs: Xattrs = random =>
  random.oneIn(2)
    ? []
    : [
        ['user.shared', 'the same everywhere'],
        [`user.${random.pick(['0', '1', 'a=b', '\xff \\'])}`, random.pick(['', 'x', '=\0', 'x'.repeat(300)])],
      ];

/**
 * An image with the xattrs of its dump unchanged: `trusted.overlay.*` is not escaped, no xattrs are added, and files with data
 * elsewhere do not become metacopies. Throws like parseDump and writeStaged.
 */
export function rawImage(lines: Iterable<ByteString>): Uint8Array {
  return writeStaged(asTheyAre(parseDump(lines)));
}

/** Stages a tree without changes, breadth first and with names in byte order, as the writer requires. */
function asTheyAre(root: TreeInode): StagedInodes {
  const staged = new StagedInodes();
  const rows = new Map<TreeInode, Row>();
  const add = (inode: TreeInode, parent: Row): Row => {
    const known = rows.get(inode);
    if (known !== undefined) return known;
    const data = isSymlink(inode.mode) ? inode.payload : inode.content;
    const row = staged.add({ ...inode, nlink: isDirectory(inode.mode) ? 2 : 1 }, data, parent);
    staged.setXattrs(row, inode.xattrs);
    rows.set(inode, row);
    return row;
  };
  add(root, 0);
  for (const [{ mode, entries }, row] of rows) {
    if (!isDirectory(mode)) continue;
    for (const name of [...entries.keys(), '.', '..'].sort()) {
      const entry = entries.get(name);
      const itself = name === '.' ? row : (staged.parent[row] as Row);
      staged.addName(row, name, entry ? add(entry.inode, row) : itself);
    }
  }
  return staged;
}

export const textOf = (lines: readonly ByteString[]): Uint8Array => bufferOf(lines.map(each => `${each}\n`).join(''));
export const linesOfText = (text: Uint8Array): ByteString[] => [...linesOf([text])];
