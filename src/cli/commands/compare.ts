/** `lowerdata compare`: compares two trees field by field. */
import type { Command } from 'commander';
import { escapeField } from '../../composefs/escape.ts';
import { type Place, pathOf, sortedEntries, type TreeEntry, type TreeInode, walkPlaces } from '../../composefs/tree.ts';
import { readSides, type Side } from '../../inspect/compare-side.ts';
import { type ByteString, bufferOf, printable } from '../../sys/bytes.ts';
import { isDirectory, isRegular, isSymlink } from '../../sys/stat.ts';
import { deviceNumbers, fileType, octal, secondsText } from '../../terminal/attributes.ts';
import { listDocumentLines, valueLines } from '../../terminal/json-lines.ts';
import { printLines } from '../../terminal/output.ts';
import { reporting } from '../../terminal/report.ts';
import { type Algorithm, algorithmOfHex, measureHex } from '../../verity/digest.ts';
import { collect, newCommand, parse } from '../command.ts';

/** Exit statuses, as of cmp(1) and diff(1). */
const DIFFERENT = 1;
const TROUBLE = 2;

interface CompareFlags {
  readonly options: ByteString[];
  readonly metadata?: true;
  readonly ignore: ByteString[];
  readonly json?: true;
}

/** A field whose values differ; the value is undefined on a side without the field. */
interface Difference {
  readonly place: Place;
  readonly field: ByteString;
  readonly a: ByteString | undefined;
  readonly b: ByteString | undefined;
}

export const define = (): Command =>
  newCommand('lowerdata compare')
    .description('Compare two trees; each field that differs is a line of path, field, value in A and value in B.')
    .usage('[options] A B')
    .argument('<a>', 'an image, a dump, a directory (such as a mount), or a stack A:B::C')
    .argument('<b>', 'the other tree')
    .option('-o, --options <list>', 'mount options of stacks', collect, [])
    .option('--metadata', "do not compare files' data")
    .option('--ignore <field>', 'a field to ignore; may be repeated', collect, [])
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExit status: 0 if they are the same, 1 if they differ, 2 for an error.');

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended === 0 ? 0 : TROUBLE;
  const [a, b] = command.args as [ByteString, ByteString];
  return reporting(TROUBLE, () => compare(a, b, command.opts<CompareFlags>()));
}

async function compare(nameA: ByteString, nameB: ByteString, flags: CompareFlags): Promise<number> {
  const [a, b] = await readSides([nameA, nameB], flags);
  const ignored = new Set(flags.ignore);
  let status = 0;
  function* counted(): Generator<Difference> {
    for (const difference of differences(a, b)) {
      if (ignored.has(difference.field) || ignored.has(difference.field.replace(/ .*/s, ''))) continue;
      status = DIFFERENT;
      yield difference;
    }
  }
  printLines(flags.json ? listDocumentLines('differences', jsonOf(counted())) : lines(counted()));
  return status;
}

function* lines(list: Iterable<Difference>): Generator<ByteString> {
  const words = (text: ByteString): ByteString => text.split(' ').map(escapeField).join(' ');
  for (const { place, field, a, b } of list) {
    const shown = (value: ByteString | undefined): ByteString =>
      value === undefined ? '-' : field === 'type' ? words(value) : escapeField(value);
    yield [escapeField(pathOf(place) || '/'), words(field), shown(a), shown(b)].join('\t');
  }
}

function* jsonOf(list: Iterable<Difference>): Generator<ByteString[]> {
  const shown = (value: ByteString | undefined): string | null => (value === undefined ? null : printable(value));
  for (const { place, field, a, b } of list)
    yield valueLines({ path: printable(pathOf(place) || '/'), field: printable(field), a: shown(a), b: shown(b) });
}

/** Yields all differences in path order. For a name that one side lacks, only the type is reported. */
function* differences(a: Side, b: Side): Generator<Difference> {
  const facts = new Facts(a.recorded && b.recorded);
  const groups = [linkGroups(a.root), linkGroups(b.root)] as const;
  const pending: [Place, TreeInode | undefined, TreeInode | undefined][] = [[undefined, a.root, b.root]];
  for (let next = pending.pop(); next; next = pending.pop()) {
    const [place, inA, inB] = next;
    if (inA && inB) {
      yield* facts.compare(place, inA, inB);
      yield* differ(place, 'link', groups[0](inA), groups[1](inB));
    } else yield* differ(place, 'type', inA && fileType(inA.mode).name, inB && fileType(inB.mode).name);
    for (const name of allNames(inA, inB).reverse())
      pending.push([{ above: place, name }, childOf(inA, name)?.inode, childOf(inB, name)?.inode]);
  }
}

const childOf = (inode: TreeInode | undefined, name: ByteString): TreeEntry | undefined => inode?.entries.get(name);

function allNames(a: TreeInode | undefined, b: TreeInode | undefined): ByteString[] {
  const [namesA, namesB] = [a, b].map(inode => (inode ? sortedEntries(inode).map(([name]) => name) : []));
  return [...new Set([...(namesA as ByteString[]), ...(namesB as ByteString[])])].sort();
}

/** Returns a function that gives the first path, in byte order, of an inode with several names; undefined for other inodes. */
function linkGroups(root: TreeInode): (inode: TreeInode) => ByteString | undefined {
  const first = new Map<TreeInode, Place>();
  const linked = new Set<TreeInode>();
  for (const [place, { inode }] of walkPlaces(root)) {
    if (first.has(inode)) linked.add(inode);
    else first.set(inode, place);
  }
  return inode => (linked.has(inode) ? pathOf(first.get(inode)) : undefined);
}

function* differ(
  place: Place,
  field: ByteString,
  a: ByteString | undefined,
  b: ByteString | undefined,
): Generator<Difference> {
  if (a !== b) yield { place, field, a, b };
}

/** The comparable fields of an inode. Sizes and link counts of directories depend on the filesystem, so they are left out. */
class Facts {
  readonly #recorded: boolean;

  /** @param recorded whether both sides record where data is; if not, the data itself is compared where both sides know it */
  constructor(recorded: boolean) {
    this.#recorded = recorded;
  }

  *compare(place: Place, a: TreeInode, b: TreeInode): Generator<Difference> {
    const factsOfB = this.#list(b);
    const known = new Map(factsOfB);
    const facts = this.#list(a);
    for (const [field, value] of facts) {
      yield* differ(place, field, value, known.get(field));
      known.delete(field);
    }
    for (const [field, value] of known) yield* differ(place, field, undefined, value);
    if (!this.#recorded) yield* compareData(place, a, b);
  }

  #list(inode: TreeInode): [ByteString, ByteString | undefined][] {
    const { mode, nlink, uid, gid, sizeBytes, mtime, mtimensec, payload, origin, content, digest, xattrs } = inode;
    const facts: [ByteString, ByteString | undefined][] = [
      ['type', fileType(mode).name],
      ['mode', octal(mode)],
      ['uid', String(uid)],
      ['gid', String(gid)],
      ['mtime', secondsText(mtime, mtimensec)],
    ];
    const device = deviceNumbers(inode);
    if (!isDirectory(mode)) facts.push(['nlink', String(nlink)], ['size', String(sizeBytes)]);
    if (device) facts.push(['device', device.join(':')]);
    if (isSymlink(mode)) facts.push(['target', payload]);
    if (isRegular(mode) && this.#recorded)
      facts.push(['object', payload], ['origin', origin], ['content', content], ['digest', digest]);
    for (const [name, value] of [...xattrs].sort()) facts.push([`xattr ${name}`, value]);
    return facts;
  }
}

function* compareData(place: Place, a: TreeInode, b: TreeInode): Generator<Difference> {
  const algorithm = algorithmOfHex(a.digest ?? b.digest ?? '') ?? 'sha256';
  const [dataOfA, dataOfB] = [dataOf(a, algorithm), dataOf(b, algorithm)];
  if (dataOfA !== undefined && dataOfB !== undefined) yield* differ(place, 'data', dataOfA, dataOfB);
}

/** The digest of a file's data, or the name of the errno that reading it gave; undefined if neither is known. */
function dataOf({ mode, sizeBytes, content, digest }: TreeInode, algorithm: Algorithm): string | undefined {
  if (!isRegular(mode)) return undefined;
  if (content !== undefined || sizeBytes === 0) return measureHex(bufferOf(content ?? ''), algorithm);
  return digest;
}
