/** The files of an image, by their names in a tar archive. */
import { type ByteString, byteStringFromText, printable } from '../sys/bytes.ts';
import { EINVAL, ELOOP, ENOENT, ErrnoError, errnoText } from '../sys/errno.ts';
import { AT_FDCWD } from '../sys/statx.ts';
import { type ImageFiles, type OpenBytes, openRegular, readAt } from './files.ts';
import { TarParser } from './tar/parser.ts';

/** A file in an archive, or a link to another one. */
interface Member {
  readonly at: number;
  readonly sizeBytes: number;
  readonly isSparse: boolean;
  readonly link: ByteString | undefined;
}
/** An archive of an image has a few files for each layer. */
const MEMBERS_MAX = 100_000;
const LINKS_MAX = 8;

/** Opens the files of a tar archive, of which only the headers are read. Throws ErrnoError with its path. */
export function openFilesOfArchive(path: ByteString): ImageFiles {
  const shown = printable(path);
  const archive = openRegular(AT_FDCWD, path, shown);
  try {
    const members = membersOf(archive, shown);
    return {
      shown,
      open: name => {
        const { at, sizeBytes, isSparse } = findMember(members, byteStringFromText(name), `${shown}: ${name}`);
        if (isSparse)
          throw new ErrnoError(EINVAL, `${shown}: ${name}: a sparse file, which an archive of an image never has`);
        return { fd: archive.fd, at, sizeBytes, close: () => {} };
      },
      close: archive.close,
    };
  } catch (error) {
    archive.close();
    throw error;
  }
}

function membersOf(archive: OpenBytes, shown: string): ReadonlyMap<ByteString, Member> {
  const members = new Map<ByteString, Member>();
  const parser = new TarParser(
    {
      entry: ({ name, type, sizeBytes, isSparse, linkname, dataAt }) => {
        const link = type === 'symlink' ? besides(name, linkname) : type === 'hard link' ? plain(linkname) : undefined;
        if (type === 'file' || link !== undefined) members.set(plain(name), { at: dataAt, sizeBytes, isSparse, link });
        return false;
      },
      ...{ data: () => {}, hole: () => {}, end: () => {} },
    },
    MEMBERS_MAX,
  );
  try {
    for (let at = 0; at < archive.sizeBytes; ) {
      const skipped = parser.unwantedBytes;
      if (skipped > 0) {
        if (skipped > archive.sizeBytes - at) break;
        parser.skip();
        at += skipped;
        continue;
      }
      const block = readAt(archive, at, Math.min(HEADER_READ_BYTES, archive.sizeBytes - at), shown);
      parser.push(block);
      at += block.length;
    }
    parser.finish();
  } catch (error) {
    if (error instanceof ErrnoError)
      throw new ErrnoError(error.errno, `${shown}: ${hintOf(archive, shown)}${error.message}`);
    throw error;
  }
  return members;
}
const HEADER_READ_BYTES = 512;

const GZIP = '\x1f\x8b';
/** Archives of images are not compressed as a whole. */
function hintOf(archive: OpenBytes, shown: string): string {
  const start = Buffer.from(readAt(archive, 0, Math.min(2, archive.sizeBytes), shown)).toString('latin1');
  return start === GZIP ? 'the archive is compressed; decompress it first: ' : '';
}

/** A name without `./` and slashes that do not matter. */
const plain = (name: ByteString): ByteString => {
  const parts: ByteString[] = [];
  for (const part of name.split('/'))
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  return parts.join('/');
};

/** The name that a symlink leads to. */
const besides = (name: ByteString, target: ByteString): ByteString =>
  plain(target.startsWith('/') ? target : `${name}/../${target}`);

function findMember(members: ReadonlyMap<ByteString, Member>, name: ByteString, shown: string): Member {
  let member = members.get(plain(name));
  for (let links = 0; member?.link !== undefined; links++) {
    if (links === LINKS_MAX) throw new ErrnoError(ELOOP, `${shown}: ${errnoText(ELOOP)}`);
    member = members.get(member.link);
  }
  if (member === undefined) throw new ErrnoError(ENOENT, `${shown}: ${errnoText(ENOENT)}`);
  return member;
}
