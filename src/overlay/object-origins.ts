/** Finds objects in base directories, checks that each is what a digest says, and tells its origin. */
import { DirLayer } from '../layers/dir.ts';
import type { Data } from '../layers/layer.ts';
import { type Name, nameOf, printable } from '../sys/bytes.ts';
import { EIO, ENOENT, ENOTUNIQ, EOPNOTSUPP, ErrnoError, errnoName } from '../sys/errno.ts';
import { readHandle } from '../sys/handles.ts';
import type { MeasurePool } from '../verity/measure-pool.ts';
import type { Outcome, Work } from '../verity/measure-worker.ts';
import { formatOrigin } from './origin.ts';
import { digestByKernel } from './verifier.ts';

/** What is looked for. */
export interface WantedObject {
  /** Where it may be below a base directory: the first path that any of them has is it. */
  readonly paths: readonly Name[];
  readonly sizeBytes: number;
  /** The fs-verity digest of SHA-256, in hex. */
  readonly digest: string;
}

/** Why there is no origin. `code` is EWRONGSIZE, EWRONGVERITY, or an errno's name. */
export interface NoOrigin {
  /** Where the object is, or the first place below a base directory where it should be. */
  readonly object: string;
  readonly code: string;
  readonly message: string;
}

/** An open object whose origin is known, and whose digest is to be checked. */
interface Opened {
  /** Where it is. */
  readonly object: string;
  readonly data: Data;
  readonly origin: Name;
}

/** One base directory. */
interface Base {
  readonly layer: DirLayer;
  readonly uuid: Name;
}

/** What a thread measures at once: few messages for small objects, even shares for large ones. */
const BATCH_OBJECTS = 32;
const BATCH_BYTES = 1 << 23;
/** Batches under way: with their descriptors they stay far below any limit. */
const BATCHES_MAX = 8;
const NULL_UUID = '\0'.repeat(16);

export class ObjectOrigins {
  private readonly bases: readonly Base[];
  private readonly pool: MeasurePool;

  /**
   * The pool stays the caller's. Throws ErrnoError where a base directory can not be opened, and where no handle of its
   * filesystem could be followed: EOPNOTSUPP without a uuid, ENOTUNIQ where another one has the same.
   */
  constructor(directories: readonly Name[], pool: MeasurePool) {
    this.bases = openBases(directories);
    this.pool = pool;
  }

  /**
   * The origin of each object, or why it has none, in the order in which they are wanted. All data is read, unless the kernel
   * has measured it. @param progress told now and then how many objects, and bytes of them, are done
   */
  async find(
    wanted: readonly WantedObject[],
    progress: (objects: number, bytes: number) => void,
  ): Promise<(Name | NoOrigin)[]> {
    const results: (Name | NoOrigin)[] = [];
    const batches = batchesOf(wanted);
    let [objects, bytes] = [0, 0];
    const serve = async (): Promise<void> => {
      for (const [from, batch] of batches) {
        for (const [i, result] of (await this.settle(batch)).entries()) results[from + i] = result;
        objects += batch.length;
        bytes += batch.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
        progress(objects, bytes);
      }
    };
    await Promise.all(Array.from({ length: BATCHES_MAX }, serve));
    return results;
  }

  close(): void {
    for (const { layer } of this.bases) layer.close();
  }

  private async settle(batch: readonly WantedObject[]): Promise<(Name | NoOrigin)[]> {
    const opened = batch.map(wanted => this.open(wanted));
    try {
      const digests = await this.measure(opened);
      return opened.map((one, i) => ('code' in one ? one : judged(one, batch[i] as WantedObject, digests.get(one))));
    } finally {
      for (const one of opened) if ('data' in one) one.data.close();
    }
  }

  /** The first object that is there by any of its names. */
  private open({ paths, sizeBytes }: WantedObject): Opened | NoOrigin {
    let missing = -ENOENT;
    for (const path of paths) {
      for (const base of this.bases) {
        const data = base.layer.openPath(path);
        if (typeof data !== 'number') return accept(base, path, data, sizeBytes);
        if (missing === -ENOENT) missing = data; // anything else says more
      }
    }
    return {
      object: printable(paths[0] ?? ''),
      code: errnoName(missing),
      message: 'no base directory has such a file',
    };
  }

  /** What the kernel, or else this program, finds the digests to be. */
  private async measure(opened: readonly (Opened | NoOrigin)[]): Promise<Map<Opened, Outcome>> {
    const digests = new Map<Opened, Outcome>();
    const unknown: Opened[] = [];
    for (const one of opened) {
      if (!('data' in one)) continue;
      const digest = digestByKernel(one.data, 'sha256');
      if (digest) digests.set(one, { digest });
      else unknown.push(one);
    }
    if (unknown.length === 0) return digests;
    const works = unknown.map(
      ({ data }): Work => ({ fd: data.fd, sizeBytes: data.sizeBytes, algorithm: 'sha256', withLeaves: false }),
    );
    for (const [i, outcome] of (await this.pool.measure(works)).entries()) digests.set(unknown[i] as Opened, outcome);
    return digests;
  }
}

function openBases(directories: readonly Name[]): Base[] {
  const bases: Base[] = [];
  try {
    for (const path of directories) {
      const layer = new DirLayer(path);
      const { uuid } = layer;
      bases.push({ layer, uuid });
      const isTwin = bases.some(other => other.uuid === uuid && other.layer.filesystem !== layer.filesystem);
      if (uuid === NULL_UUID) throw unusable(layer, EOPNOTSUPP, 'has no uuid');
      if (isTwin) throw unusable(layer, ENOTUNIQ, 'has the uuid of another one');
    }
    return bases;
  } catch (error) {
    for (const { layer } of bases) layer.close();
    throw error;
  }
}

const unusable = ({ path }: DirLayer, errno: number, why: string): ErrnoError =>
  new ErrnoError(errno, `${path}: ${errnoName(errno)}: its filesystem ${why}, so that no origin leads there`);

/** Everything but the digest of an object, which is closed where it is refused. */
function accept({ layer, uuid }: Base, path: Name, data: Data, sizeBytes: number): Opened | NoOrigin {
  const object = `${layer.path}/${printable(path)}`;
  const refuse = (code: string, message: string): NoOrigin => {
    data.close();
    return { object, code, message };
  };
  if (data.sizeBytes !== sizeBytes) return refuse('EWRONGSIZE', `${data.sizeBytes} bytes, the image says ${sizeBytes}`);
  const handle = readHandle(data.fd, '');
  if (typeof handle === 'number') return refuse(errnoName(handle), 'its filesystem gives no file handle');
  return { object, data, origin: nameOf(formatOrigin({ uuid, handle })) };
}
function judged({ object, origin }: Opened, wanted: WantedObject, outcome: Outcome | undefined): Name | NoOrigin {
  if (outcome === undefined || !('digest' in outcome))
    return { object, code: errnoName(outcome?.errno ?? EIO), message: `${outcome?.message}` };
  const found = Buffer.from(outcome.digest).toString('hex');
  if (found === wanted.digest) return origin;
  return { object, code: 'EWRONGVERITY', message: `its digest is ${found}, the image says ${wanted.digest}` };
}

/** Cuts what is wanted into pieces, each with the place of its first object. */
function* batchesOf(wanted: readonly WantedObject[]): Generator<[number, readonly WantedObject[]]> {
  for (let from = 0, to = 0; from < wanted.length; from = to) {
    for (let bytes = 0; to < wanted.length && to - from < BATCH_OBJECTS && bytes < BATCH_BYTES; to++)
      bytes += (wanted[to] as WantedObject).sizeBytes;
    yield [from, wanted.slice(from, to)];
  }
}
