/**
 * Opens the index of an upper layer, for the option index=on. The upper directory is marked with the lower layer that it belongs to,
 * and the index with the upper directory: the handles in both mean nothing elsewhere.
 * Source: kernel fs/overlayfs/super.c, ovl_get_indexdir; namei.c, ovl_verify_index; readdir.c, ovl_indexdir_cleanup.
 */
import type { Inode, Layer } from '../layers/layer.ts';
import type { UpperLayer } from '../layers/upper.ts';
import { LinkIndex } from '../overlay/hard-links/link-index.ts';
import { type IndexMark, indexMarks, refuseForeign } from '../overlay/hard-links/marks.ts';
import { type IndexObstacle, indexObstacle } from '../overlay/hard-links/obstacle.ts';
import { parseOrigin } from '../overlay/origin.ts';
import { OriginInodes } from '../overlay/origin-ino.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { isWhiteout } from '../overlay/step.ts';
import { CONFINED, O_DIRECTORY, O_NOFOLLOW, O_PATH, openIn } from '../sys/beneath.ts';
import type { ByteString } from '../sys/bytes.ts';
import { EEXIST, EINVAL, errnoText, must } from '../sys/errno.ts';
import { removeXattr, setXattr } from '../sys/found.ts';
import { native } from '../sys/native.ts';
import { isDirectory } from '../sys/stat.ts';
import { makePlain, type WorkDirectory } from './work.ts';

const INDEX: ByteString = 'index';
/** The first byte of the names that the kernel gives to objects in the making. */
const TEMPORARY = '#';

/** Why the stack can have no index; undefined if it can. */
export function whyNoIndex(overlay: Overlay, upper: Layer, work: WorkDirectory): IndexObstacle | undefined {
  const { opaque } = overlay.rules.xattrs;
  const marked = setXattr(work.fd, opaque, Uint8Array.of(0x30), 0); // on a directory that is no layer
  if (marked < 0) return { layer: upper.path, why: `xattrs cannot be set: ${errnoText(marked)}` };
  removeXattr(work.fd, opaque);
  const [, ...lowers] = overlay.layers;
  return indexObstacle(upper, [...lowers, ...overlay.dataLayers]);
}

/**
 * Opens the index in the work directory, makes it if it is missing, and removes copies that no name leads to any more.
 * @param base a descriptor of the directory of the option workdir
 * Throws ErrnoError that names the directory: ESTALE if it belongs to another upper directory, or that to other lower layers; EINVAL
 * for an entry that cannot be understood
 */
export function openIndex(overlay: Overlay, upper: UpperLayer, work: WorkDirectory, base: number): LinkIndex {
  const what = `workdir ${work.path}/${INDEX}`;
  const made = native.mkdirat(base, INDEX, 0o700);
  if (made < 0 && made !== -EEXIST) must(made, what);
  const fd = must(openIn(base, INDEX, O_PATH | O_DIRECTORY | O_NOFOLLOW, CONFINED), what);
  try {
    if (made === 0) makePlain(fd, what);
    const index = new LinkIndex(upper, upper.unnamed(upper.root, fd, `(${INDEX})`), overlay.rules.xattrs);
    const marks = indexMarks(overlay, index);
    refuseForeign(overlay, marks, work.path);
    mark(upper, marks);
    new Cleaning(overlay, index, work).run(fd);
    return index;
  } finally {
    native.close(fd);
  }
}

function mark(upper: UpperLayer, marks: readonly IndexMark[]): void {
  for (const { holder, name, value, state } of marks)
    if (state === 'missing') must(upper.setXattr(holder, -1, name, value), `upperdir ${upper.path}: ${name}`);
}

/** Looks at each entry of an index, and removes those that nothing leads to. */
class Cleaning {
  private readonly overlay: Overlay;
  private readonly index: LinkIndex;
  private readonly work: WorkDirectory;
  private readonly origins: OriginInodes;

  constructor(overlay: Overlay, index: LinkIndex, work: WorkDirectory) {
    this.overlay = overlay;
    this.index = index;
    this.work = work;
    const { layers, rules } = overlay;
    this.origins = new OriginInodes(layers.slice(1), rules.xattrs);
  }

  run(fd: number): void {
    const { index, work } = this;
    for (const [name, dtype] of work.entries(fd)) {
      if (name.startsWith(TEMPORARY)) work.removeLeftover(fd, name, dtype);
      else {
        const entry = index.layer.objectAt(index.directory, name);
        if (entry && !this.isUsed(entry, name))
          must(native.unlinkat(fd, name, 0), `workdir ${work.path}/${INDEX}/${name}`);
      }
    }
  }

  /** Whether some name leads to an entry, or it cannot be told. The kernel makes directories and whiteouts for NFS. */
  private isUsed(entry: Inode, name: ByteString): boolean {
    const { index, overlay } = this;
    const { xattrs } = overlay.rules;
    if (!/^([0-9a-f]{2})*$/i.test(name) || parseOrigin(Buffer.from(name, 'hex')) === undefined)
      throw this.refusal(name, 'not the name of a file handle that is known here');
    if (isDirectory(entry.mode) || isWhiteout(xattrs, entry)) return true;
    const value = index.layer.getxattr(entry, xattrs.origin);
    const origin = value && parseOrigin(value);
    if (value === undefined || origin === undefined) throw this.refusal(name, 'without an origin');
    if (Buffer.from(value).toString('hex') !== name.toLowerCase()) return false;
    if (index.layer.attr(entry, -1, true).nlink > 1) return true;
    const lower = this.origins.find(origin);
    return (
      lower !== undefined && lower.layer.attr(lower, -1, true).nlink > 1 && index.linksOf(entry, lower) !== undefined
    );
  }

  private refusal(name: ByteString, why: string): Error {
    return this.index.unusable(name, `${why}; mount with index=off, or remove ${this.work.path}/${INDEX}`, EINVAL);
  }
}
