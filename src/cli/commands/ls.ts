/** `lowerdata ls`: lists directories of a stack. */
import type { Command } from 'commander';
import type { Node } from '../../overlay/node.ts';
import type { Overlay } from '../../overlay/overlay.ts';
import { findPath } from '../../overlay/path.ts';
import { type ByteString, printable } from '../../sys/bytes.ts';
import { attempt, ErrnoError, errnoText } from '../../sys/errno.ts';
import { isDirectory, isSymlink } from '../../sys/stat.ts';
import { arrow, deviceNumbers, minuteText, modeText } from '../../terminal/attributes.ts';
import { printLines } from '../../terminal/output.ts';
import { complain } from '../../terminal/report.ts';
import { parse } from '../command.ts';
import { forPaths, newStackCommand } from '../stack.ts';

interface LsFlags {
  readonly options: ByteString[];
  readonly long?: true;
  readonly all?: true;
  readonly directory?: true;
}

/** A name with its node; an errno if the lookup fails although the directory lists the name. */
interface Listed {
  readonly name: ByteString;
  readonly node: Node | number;
}

export const define = (): Command =>
  newStackCommand('ls')
    .description('List directories of a stack, without a mount: one name a line, in byte order.')
    .option('-l, --long', 'also show mode, links, owner, group, size and time (UTC)')
    .option('-a, --all', 'also show names that begin with a dot')
    .option('-d, --directory', 'show directories themselves, not their contents');

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const flags = command.opts<LsFlags>();
  const several = command.args.length > 2;
  let lists = 0;
  return forPaths(command.args, flags, async (overlay, path) => {
    const node = findPath(overlay, path, !flags.long && !flags.directory);
    const isList = isDirectory(node.top.mode) && !flags.directory;
    const heading = isList && several ? [...(lists++ > 0 ? [''] : []), `${path}:`] : [];
    printLines([...heading, ...lines(overlay, isList ? entries(overlay, node, flags) : [{ name: path, node }], flags)]);
  });
}

function entries(overlay: Overlay, directory: Node, { all }: LsFlags): Listed[] {
  const names = overlay.list(directory).map(({ name }) => name);
  return names
    .filter(name => all || !name.startsWith('.'))
    .sort((a, b) => (a < b ? -1 : 1))
    .flatMap(name => listed(overlay, directory, name));
}

/** Looks up a listed name. A whiteout counts as absent, even in a directory that is not merged and therefore lists it. */
function listed(overlay: Overlay, directory: Node, name: ByteString): Listed[] {
  try {
    return [{ name, node: overlay.lookup(directory, name) }];
  } catch (error) {
    if (error instanceof ErrnoError) return [{ name, node: -error.errno }];
    throw error;
  }
}

function lines(overlay: Overlay, list: readonly Listed[], { long }: LsFlags): ByteString[] {
  if (!long) return list.map(({ name }) => name);
  const rows = list.map(({ name, node }) =>
    typeof node === 'number' ? broken(name, node) : rowOrBroken(overlay, name, node),
  );
  const widths = [0, 1, 2, 3, 4].map(column => Math.max(...rows.map(cells => cells[column]?.length ?? 0)));
  return rows.map(cells => cells.map((cell, i) => (i === 0 || i > 4 ? cell : cell.padStart(widths[i] ?? 0))).join(' '));
}

function rowOrBroken(overlay: Overlay, name: ByteString, node: Node): ByteString[] {
  const cells = attempt(() => row(overlay, name, node));
  return cells instanceof ErrnoError ? broken(name, -cells.errno) : cells;
}

/** The cells of a row: mode, links, owner, group, size or device numbers, time, name. */
function row(overlay: Overlay, name: ByteString, node: Node): ByteString[] {
  const attr = overlay.attr(node);
  const size = deviceNumbers(attr)?.join(', ') ?? String(attr.size);
  const time = minuteText(attr.mtime);
  const target = isSymlink(attr.mode) ? overlay.readlink(node) : undefined;
  return [
    modeText(attr.mode),
    String(attr.nlink),
    String(attr.uid),
    String(attr.gid),
    size,
    time,
    name + arrow(target),
  ];
}

function broken(name: ByteString, errno: number): ByteString[] {
  complain(`${printable(name)}: ${errnoText(errno)}`);
  return ['??????????', '?', '?', '?', '?', '?', name];
}
