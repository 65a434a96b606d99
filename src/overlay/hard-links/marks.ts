/** The xattrs that bind an index to its upper directory, and that to its lower layer. Source: kernel ovl_verify_set_fh. */
import type { Inode } from '../../layers/layer.ts';
import type { ByteString } from '../../sys/bytes.ts';
import { EOPNOTSUPP, ErrnoError, ESTALE } from '../../sys/errno.ts';
import { formatOrigin, parseOrigin } from '../origin.ts';
import type { Overlay } from '../overlay.ts';
import type { LinkIndex } from './link-index.ts';

/** An xattr which says that one directory belongs to another. */
export interface IndexMark {
  /** The directory that has the xattr, or will have it. */
  readonly holder: Inode;
  readonly name: ByteString;
  /** The file handle of the directory that it should name. */
  readonly value: Uint8Array;
  readonly state: 'right' | 'missing' | 'other';
}

/** The marks that the directories of an overlay need, and older kernels' mark of the index if it is there. */
export function indexMarks({ layers, rules }: Overlay, { directory }: LinkIndex): IndexMark[] {
  const [upper, lower] = layers.map(({ root }) => root) as [Inode, Inode];
  const { origin, upper: ofUpper } = rules.xattrs;
  const older = markOf(directory, origin, upper, true);
  return [
    markOf(upper, origin, lower, false),
    ...(older.state === 'missing' ? [] : [older]),
    markOf(directory, ofUpper, upper, true),
  ];
}

function markOf(holder: Inode, name: ByteString, named: Inode, isUpper: boolean): IndexMark {
  const handle = named.layer.originOf?.(named);
  if (handle === undefined) throw new ErrnoError(EOPNOTSUPP, `layer ${named.layer.path}: its root has no file handle`);
  const value = formatOrigin(handle, isUpper);
  const found = holder.layer.getxattr(holder, name);
  const isThere = found !== undefined && parseOrigin(found) !== undefined;
  const state = !isThere ? 'missing' : Buffer.compare(found, value) === 0 ? 'right' : 'other';
  return { holder, name, value, state };
}

/** Throws ESTALE, naming the directory, for a mark that names another one. */
export function refuseForeign(overlay: Overlay, marks: readonly IndexMark[], workdir: string): void {
  const [upper, lower] = overlay.layers;
  const other = marks.find(({ state }) => state === 'other');
  if (other === undefined) return;
  throw new ErrnoError(
    ESTALE,
    other.holder === upper?.root
      ? `upperdir ${upper.path}: belongs to another lower layer than ${lower?.path}, because it was used with index=on; give the ` +
          'layers that it was used with, or index=off'
      : `workdir ${workdir}: its index belongs to another upperdir than ${upper?.path}; give the workdir that ${upper?.path} was used ` +
          'with, or index=off',
  );
}
