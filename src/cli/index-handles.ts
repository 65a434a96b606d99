/** `lowerdata index`: notes where the files of a directory are by their handles, so that ordinary users can follow origins. */
import { lstatSync, opendirSync } from 'node:fs';
import type { Command } from 'commander';
import { formatHandleIndex, HANDLE_INDEX, handleText } from '../layers/handle-index.ts';
import { type Name, nameBytes, nameFromText, printable } from '../sys/bytes.ts';
import { EOPNOTSUPP, ErrnoError, must } from '../sys/errno.ts';
import { readHandle, readUuid } from '../sys/handles.ts';
import { native } from '../sys/native.ts';
import { newCommand, parse } from './command.ts';
import { print } from './output.ts';
import { Output } from './output-file.ts';
import { reporting } from './report.ts';

const FAILED = 1;
const O_DIRECTORY = 0o200000;
const AT_FDCWD = -100;

export const define = (): Command =>
  newCommand('lowerdata index')
    .description(
      `Write ${HANDLE_INDEX} into directories of objects: where each file is, by its handle. Mounts of users without ` +
        'CAP_DAC_READ_SEARCH find data by its origin with it. Make it again when objects were added or moved.',
    )
    .usage('DIR...')
    .argument('<dirs...>', 'data-only layers');

export async function run(args: readonly Name[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  let status = 0;
  for (const directory of command.args) status = Math.max(status, await reporting(FAILED, () => index(directory)));
  return status;
}

async function index(directory: Name): Promise<number> {
  const { dev } = lstatSync(nameBytes(directory) as Buffer);
  const root = must(native.openat2(AT_FDCWD, directory, O_DIRECTORY, 0), printable(directory));
  try {
    const uuid = readUuid(root);
    if (/^\0*$/.test(uuid)) throw new ErrnoError(EOPNOTSUPP, `${printable(directory)}: its filesystem has no uuid`);
    const output = new Output(`${directory}/${HANDLE_INDEX}`);
    const entries: [string, Name][] = [];
    for (const path of files(directory, '', dev)) {
      const handle = readHandle(root, path);
      if (typeof handle === 'number') must(handle, `${printable(directory)}/${printable(path)}: file handle`);
      else entries.push([handleText(handle), path]);
    }
    await output.write(formatHandleIndex(uuid, entries));
    await print(nameFromText(`${printable(directory)}: ${entries.length} files\n`));
    return 0;
  } finally {
    native.close(root);
  }
}

/** The paths of all regular files below a directory, on its filesystem; symlinks are not followed. */
function* files(root: Name, below: Name, dev: number): Generator<Name> {
  const directory = opendirSync(nameBytes(`${root}/${below}`) as Buffer & string, { encoding: 'latin1' });
  try {
    for (let entry = directory.readSync(); entry; entry = directory.readSync()) {
      const path = below === '' ? entry.name : `${below}/${entry.name}`;
      if (path === HANDLE_INDEX) continue;
      if (entry.isFile()) yield path;
      else if (entry.isDirectory() && lstatSync(nameBytes(`${root}/${path}`) as Buffer).dev === dev)
        yield* files(root, path, dev);
    }
  } finally {
    directory.closeSync();
  }
}
