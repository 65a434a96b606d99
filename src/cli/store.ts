/** What the commands that work on a repository have in common. */
import type { Command } from 'commander';
import type { OpenImage } from '../oci/image.ts';
import { StoredRepository } from '../oci/stored/repository.ts';
import type { ByteString } from '../sys/bytes.ts';
import { byteStringFromText } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';
import { showBytes } from '../terminal/progress.ts';
import { complain } from '../terminal/report.ts';
import { newCommand } from './command.ts';
import { escapedPath, shellWord } from './spelled.ts';

export interface StoreFlags {
  readonly store?: ByteString;
}

/** Makes a command with the option --store. */
export const newStoreCommand = (name: string): Command =>
  newCommand(`lowerdata ${name}`).option('--store <path>', 'the repository, as `lowerdata pull` makes it');

/** Opens the repository that --store names, and closes it in the end. @param changes as of StoredRepository */
export async function inStore<T>(
  { store }: StoreFlags,
  changes: boolean,
  use: (repository: StoredRepository) => T | Promise<T>,
): Promise<T> {
  if (store === undefined) throw new ErrnoError(EINVAL, '--store is missing: the repository');
  const repository = new StoredRepository(store, changes);
  try {
    return await use(repository);
  } finally {
    repository.close();
  }
}

/** Says whom a command waits for that needs the lock of a repository. */
export const reportWait = (holders: string): void => complain(`waiting for ${holders}, which uses the repository`);

/** A bar for each layer of an image that is pulled, by the number of the layer. */
export const layerProgress =
  ({ layers }: OpenImage) =>
  (number: number): ReturnType<typeof showBytes> =>
    showBytes(layers[number]?.blob?.size, `layer ${number + 1} of ${layers.length}: `);

/** The call that mounts an image by its name or digest. */
export function mountByName({ path }: StoredRepository, name: ByteString): ByteString {
  const options = `store=${escapedPath(path)}`;
  return `lowerdata mount ${shellWord(name)} MOUNTPOINT -o ${shellWord(options)}`;
}

const UNITS = ['kB', 'MB', 'GB', 'TB', 'PB'];

/** A number of bytes for people: three digits and a unit of 1,000s. */
export function sizeText(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  const power = Math.min(Math.floor(Math.log10(bytes) / 3), UNITS.length);
  const count = bytes / 1000 ** power;
  return `${count.toFixed(count < 9.95 ? 1 : 0)} ${UNITS[power - 1]}`;
}

/** The lines of a table whose columns are aligned, the last one of any width. */
export function tableLines(rows: readonly (readonly string[])[]): ByteString[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map(row => row[column]?.length ?? 0)));
  const cell = (text: string, i: number): string => (i === widths.length - 1 ? text : text.padEnd(widths[i] as number));
  return rows.map(row => byteStringFromText(row.map(cell).join('  ').trimEnd()));
}
