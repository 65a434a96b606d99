/** The entries of a tar archive. */
import type { ByteString } from '../../sys/bytes.ts';
import { refuse, type TarHeader } from './header.ts';

export type TarType = 'file' | 'hard link' | 'symlink' | 'character device' | 'block device' | 'directory' | 'fifo';

/** One entry, with all extensions applied. */
export interface TarEntry {
  /** As the archive has it: it may be empty, begin with `/`, end with `/`, and hold `.`, `..` or `//`. */
  readonly name: ByteString;
  readonly type: TarType;
  /** Permission bits; other bits may be set, too. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Seconds since 1970, which may be negative. */
  readonly mtime: number;
  readonly mtimensec: number;
  /** The target of a symlink, or the name of an earlier entry for a hard link. */
  readonly linkname: ByteString;
  readonly devmajor: number;
  readonly devminor: number;
  /** The size of a file with its holes; 0 for other types. */
  readonly sizeBytes: number;
  readonly isSparse: boolean;
  /** Values of SCHILY.xattr.*, by name. */
  readonly xattrs: ReadonlyMap<ByteString, ByteString>;
  /** The offsets in the archive of the entry's first header, extensions included, and of its data. */
  readonly at: number;
  readonly dataAt: number;
  /** Bytes of data that the archive holds: fewer than its size for a sparse file. */
  readonly storedBytes: number;
}

/** The type of a sparse file of GNU. */
export const SPARSE = 'S';
/** Types of headers that extend the next one: pax, pax for all entries, and the long name and link of GNU. */
export const EXTENSIONS: readonly string[] = ['x', 'g', 'L', 'K'];
/** The type of the extension for all entries, which is ignored. */
export const GLOBAL = 'g';

const TYPES: ReadonlyMap<string, TarType> = new Map([
  ['\0', 'file'],
  ['0', 'file'],
  ['7', 'file'], // contiguous
  [SPARSE, 'file'],
  ['1', 'hard link'],
  ['2', 'symlink'],
  ['3', 'character device'],
  ['4', 'block device'],
  ['5', 'directory'],
  ['6', 'fifo'],
]);

/** The type of an entry. Throws ErrnoError EUCLEAN for one that is not known. */
export function typeOf({ typeflag }: TarHeader, name: ByteString): TarType {
  if (typeflag === '\0' && name.endsWith('/')) return 'directory'; // archives older than POSIX
  return TYPES.get(typeflag) ?? refuse(`type ${JSON.stringify(typeflag)} is not known`);
}
