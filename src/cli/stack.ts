/** A stack that is read without a mount: how commands name it, open it, and find paths in it. */
import type { Command } from 'commander';
import type { Node } from '../overlay/node.ts';
import { openOverlay } from '../overlay/open.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { type Name, printable } from '../sys/bytes.ts';
import { ELOOP, ENOENT, ENOTDIR, ErrnoError, errnoName } from '../sys/errno.ts';
import { isDirectory, isSymlink } from '../sys/stat.ts';
import { collect, newCommand } from './command.ts';
import { isImage, planMount } from './mount-options.ts';
import { reporting, WRONG_CALL } from './report.ts';

const FAILED = 1;
/** Symlinks in one path at most. Source: linux/namei.h, MAXSYMLINKS. */
const SYMLINKS_MAX = 40;

/** What a command does with one path. */
type Use = (overlay: Overlay, path: Name) => void | Promise<void>;

/** A command with a stack and paths in it. */
export function newStackCommand(name: string): Command {
  return newCommand(`lowerdata ${name}`)
    .usage('[options] A:B::C|IMAGE PATH...')
    .argument('<stack>', 'the layers, as for mount')
    .argument('<paths...>', 'paths from the root of the stack')
    .option('-o, --options <list>', 'mount options that change what the stack shows', collect, []);
}

/**
 * Opens a stack, calls `use` for each path, and goes on with the next one where a path can not be had.
 * @returns the exit status: 0, or 1 if anything failed
 */
export async function forPaths(
  [source = '', ...paths]: readonly Name[],
  { options }: { readonly options: Name[] },
  use: Use,
): Promise<number> {
  return reporting(WRONG_CALL, async () => {
    const isRoot = process.geteuid?.() === 0;
    const { stack } = planMount({ source, texts: options, sloppy: false, isRoot, isImage });
    const overlay = openOverlay(stack);
    let status = 0;
    for (const path of paths) status = Math.max(status, await reporting(FAILED, () => one(overlay, path, use)));
    overlay.close();
    return status;
  });
}

async function one(overlay: Overlay, path: Name, use: Use): Promise<number> {
  await use(overlay, path);
  return 0;
}

/**
 * Finds a path as the kernel does in a mount that is its own root: symlinks are followed, absolute ones from the root.
 * @param followLast whether the last component is followed, too
 * Throws ErrnoError that names the path.
 */
export function find(overlay: Overlay, path: Name, followLast: boolean): Node {
  const above: Node[] = [];
  let at = overlay.root;
  let links = 0;
  const rest = path.split('/').reverse();
  for (let name = rest.pop(); name !== undefined; name = rest.pop()) {
    const isLast = rest.length === 0;
    if (!isDirectory(at.top.mode)) throw failure(path, ENOTDIR);
    if (name === '' || name === '.') continue;
    if (name === '..') {
      at = above.pop() ?? overlay.root;
      continue;
    }
    const found = overlay.lookup(at, name);
    if (typeof found === 'number') throw failure(path, -found);
    if (!isSymlink(found.top.mode) || (isLast && !followLast)) {
      above.push(at);
      at = found;
      continue;
    }
    if (++links > SYMLINKS_MAX) throw failure(path, ELOOP);
    const target = overlay.readlink(found);
    if (target === '') throw failure(path, ENOENT);
    if (target.startsWith('/')) {
      at = overlay.root;
      above.length = 0;
    }
    rest.push(...target.split('/').reverse());
  }
  return at;
}

export function failure(path: Name, errno: number): ErrnoError {
  return new ErrnoError(errno, `${printable(path)}: ${errnoName(errno)}`);
}
