/** The policy of SELinux that the tree of an image has in /etc/selinux. */
import type { TreeInode } from '../../composefs/tree.ts';
import { type ByteString, bufferOf, byteStringFromText, printable } from '../../sys/bytes.ts';
import { EFBIG, EINVAL, ENOENT, ErrnoError } from '../../sys/errno.ts';
import { isDirectory, isRegular } from '../../sys/stat.ts';
import { readAt } from '../files.ts';
import type { Streams } from '../streams/stored.ts';
import { type Aliases, FileContexts, type PolicyFile, readAliases } from './contexts.ts';

/** The most bytes of one file of a policy. Real ones have 500,000. */
const FILE_BYTES_MAX = 4 << 20;
const HOME = '/etc/selinux';
// In the order in which they count; source: composefs-rs, Policy::build. libselinux has the last two the other way round.
const CONTEXTS: readonly string[] = ['file_contexts', 'file_contexts.local', 'file_contexts.homedirs'];
const ALIASES: readonly string[] = ['file_contexts.subs', 'file_contexts.subs_dist'];

export interface SelinuxPolicy {
  readonly contexts: FileContexts;
  readonly aliases: Aliases;
}

/**
 * Reads the policy that /etc/selinux/config names. Throws ErrnoError with the path in the image: for a policy whose files are missing
 * or wrong. @returns undefined for a tree that names none
 */
export async function readPolicy(root: TreeInode, streams: Streams): Promise<SelinuxPolicy | undefined> {
  const home = directoryAt(root, HOME.slice(1));
  const config = home && textOf(home, HOME, 'config', streams);
  const name = config && policyNamed(config);
  if (!name) return undefined;
  const path = `${HOME}/${name}/contexts/files`;
  const files = directoryAt(root, byteStringFromText(path.slice(1)));
  if (files === undefined)
    throw new ErrnoError(ENOENT, `the image has no directory ${path}, which ${config.shown} names`);
  const read = (names: readonly string[]): PolicyFile[] =>
    names.map(each => textOf(files, path, each, streams)).filter(file => file !== undefined);
  const contexts = read(CONTEXTS);
  const [mandatory] = CONTEXTS;
  if (!files.entries.has(mandatory as string))
    throw new ErrnoError(ENOENT, `the image has no file ${path}/${mandatory}`);
  return { contexts: await FileContexts.read(contexts), aliases: readAliases(read(ALIASES)) };
}

/** The value of SELINUXTYPE; undefined without one. Source: composefs-rs, parse_config. */
function policyNamed({ text, shown }: PolicyFile): string | undefined {
  for (const line of text.split('\n')) {
    const [key = '', ...value] = line.split('=');
    if (value.length === 0 || key.trim().toUpperCase() !== 'SELINUXTYPE') continue;
    const name = value.join('=').trim();
    if (/^(?!\.\.?$)[^/\0]+$/.test(name)) return name;
    throw new ErrnoError(
      EINVAL,
      `${shown}: SELINUXTYPE=${printable(byteStringFromText(name))} is not the name of a directory`,
    );
  }
  return undefined;
}

/** A directory by its path, undefined if there is nothing. Throws ErrnoError for what is not a directory. */
function directoryAt(root: TreeInode, path: ByteString): TreeInode | undefined {
  let directory: TreeInode = root;
  const seen: ByteString[] = [];
  for (const name of path.split('/')) {
    seen.push(name);
    const found = directory.entries.get(name)?.inode;
    if (found === undefined) return undefined;
    if (!isDirectory(found.mode))
      throw new ErrnoError(EINVAL, `in the image, /${seen.map(printable).join('/')} is not a directory`);
    directory = found;
  }
  return directory;
}

/** The text of a file, undefined if there is none. Throws ErrnoError for what is not a file with text. */
function textOf(directory: TreeInode, path: string, name: string, streams: Streams): PolicyFile | undefined {
  const inode = directory.entries.get(name)?.inode;
  if (inode === undefined) return undefined;
  const shown = `${path}/${name}`;
  if (!isRegular(inode.mode)) throw new ErrnoError(EINVAL, `in the image, ${shown} is not a regular file`);
  if (inode.sizeBytes > FILE_BYTES_MAX)
    throw new ErrnoError(EFBIG, `in the image, ${shown} has ${inode.sizeBytes} bytes; ${FILE_BYTES_MAX} are allowed`);
  try {
    return { shown, text: new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytesOf(inode, streams)) };
  } catch (error) {
    if (error instanceof ErrnoError) throw error;
    throw new ErrnoError(EINVAL, `in the image, ${shown} is not UTF-8`);
  }
}

function bytesOf({ content, digest }: TreeInode, streams: Streams): Uint8Array {
  if (digest === undefined) return bufferOf(content ?? '');
  const file = streams.openMeasured(digest);
  try {
    return readAt(file, 0, file.sizeBytes, streams.shown(digest));
  } finally {
    file.close();
  }
}
