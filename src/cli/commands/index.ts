/**
 * `lowerdata index`: records the path of each file in a directory by its file handle, so that ordinary users can follow origins.
 */
import type { Command } from 'commander';
import { formatHandleIndex, HANDLE_INDEX, handleText } from '../../layers/handle-index.ts';
import { openDirectory } from '../../sys/beneath.ts';
import { type ByteString, byteStringFromText, printable } from '../../sys/bytes.ts';
import { EOPNOTSUPP, ErrnoError, must } from '../../sys/errno.ts';
import { readHandle, readUuid } from '../../sys/handles.ts';
import { native } from '../../sys/native.ts';
import { isDirectory, isRegular } from '../../sys/stat.ts';
import { statx, statxDevice, statxDeviceIs, statxMode } from '../../sys/statx.ts';
import { walkTree } from '../../sys/walk.ts';
import { print } from '../../terminal/output.ts';
import { Output } from '../../terminal/output-file.ts';
import { reporting } from '../../terminal/report.ts';
import { newCommand, parse } from '../command.ts';

const FAILED = 1;

export const define = (): Command =>
  newCommand('lowerdata index')
    .description(
      `Write ${HANDLE_INDEX} into directories of objects: where each file is, by its handle. Mounts of users without ` +
        'CAP_DAC_READ_SEARCH find data by its origin with it. Run it again after objects are added or moved.',
    )
    .usage('DIR...')
    .argument('<dirs...>', 'data-only layers');

export async function run(args: readonly ByteString[]): Promise<number> {
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  let status = 0;
  for (const directory of command.args) status = Math.max(status, await reporting(FAILED, () => index(directory)));
  return status;
}

async function index(directory: ByteString): Promise<number> {
  const root = must(openDirectory(directory, true), printable(directory));
  try {
    const uuid = readUuid(root);
    if (/^\0*$/.test(uuid)) throw new ErrnoError(EOPNOTSUPP, `${printable(directory)}: its filesystem has no uuid`);
    const output = new Output(`${directory}/${HANDLE_INDEX}`);
    const entries = handlesBelow(root, directory);
    await output.write(formatHandleIndex(uuid, entries));
    print(byteStringFromText(`${printable(directory)}: ${entries.length} files\n`));
    return 0;
  } finally {
    native.close(root);
  }
}

/** The handles and paths of all regular files below a directory, on its filesystem only; symlinks are not followed. */
function handlesBelow(root: number, shown: ByteString): [string, ByteString][] {
  const entries: [string, ByteString][] = [];
  must(statx(root, ''), printable(shown));
  const device = statxDevice();
  walkTree(root, shown, true, ({ fd, path }) => {
    const mode = statxMode();
    if (isDirectory(mode) && statxDeviceIs(device)) return true;
    if (!isRegular(mode) || path === HANDLE_INDEX) return undefined;
    const handle = readHandle(fd, '');
    if (typeof handle === 'number') must(handle, `${printable(shown)}/${printable(path)}: file handle`);
    else entries.push([handleText(handle), path]);
    return undefined;
  });
  return entries;
}
