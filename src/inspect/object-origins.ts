/** Finds objects in base directories, checks each against its digest, and determines its origin. */
import { DirLayer } from '../layers/dir.ts';
import type { Data } from '../layers/layer.ts';
import { formatOrigin } from '../overlay/origin.ts';
import { digestByKernel } from '../overlay/verifier.ts';
import { type ByteString, byteStringOf, printable } from '../sys/bytes.ts';
import { ENOENT, ENOTUNIQ, EOPNOTSUPP, ErrnoError, errnoName, errnoText } from '../sys/errno.ts';
import { readHandle } from '../sys/handles.ts';
import { algorithmOfHex } from '../verity/algorithms.ts';
import type { MeasurePool, WithWork } from '../verity/measure-pool.ts';
import type { Outcome, Work } from '../verity/measure-worker.ts';

/** An object to find. */
export interface WantedObject {
  /** Possible paths below a base directory. The first path that exists in any base directory is the object. */
  readonly paths: readonly ByteString[];
  readonly sizeBytes: number;
  /** The fs-verity digest in hex: 64 digits of SHA-256, or 128 of SHA-512. */
  readonly digest: string;
}

/** The reason why an object has no origin. `code` is EWRONGSIZE, EWRONGVERITY, or the name of an errno. */
export interface NoOrigin {
  /** The path of the object, or the first path below a base directory at which it should be. */
  readonly object: string;
  readonly code: string;
  readonly message: string;
}

/** An open object whose origin is known, and whose digest is still to be checked. */
interface OpenObject {
  /** The path of the object, with its base directory. */
  readonly object: string;
  readonly data: Data;
  readonly origin: ByteString;
}

/** An open object for the threads to measure. */
interface Unmeasured extends WithWork {
  /** The index of the object among those that are wanted. */
  readonly index: number;
  readonly opened: OpenObject;
}
type Settle = (index: number, result: ByteString | NoOrigin) => void;

/** One base directory. */
interface Base {
  readonly layer: DirLayer;
  readonly uuid: ByteString;
}

const NULL_UUID = '\0'.repeat(16);

export class ObjectOrigins {
  private readonly bases: readonly Base[];
  private readonly pool: MeasurePool;

  /**
   * The pool stays the caller's to close. Throws ErrnoError if a base directory cannot be opened, or if handles of its filesystem
   * cannot be resolved: EOPNOTSUPP without a uuid, ENOTUNIQ if another filesystem has the same uuid.
   */
  constructor(directories: readonly ByteString[], pool: MeasurePool) {
    this.bases = openBases(directories);
    this.pool = pool;
  }

  /**
   * The origin of each object, or the reason why it has none, in the order of `wanted`. All data is read, unless the kernel has
   * measured it.
   * @param progress called after each object with the number of objects that are done, and their bytes
   */
  async find(
    wanted: readonly WantedObject[],
    progress: (objects: number, bytes: number) => void,
  ): Promise<(ByteString | NoOrigin)[]> {
    const results: (ByteString | NoOrigin)[] = [];
    let [objects, bytes] = [0, 0];
    const settle: Settle = (index, result) => {
      results[index] = result;
      objects++;
      bytes += (wanted[index] as WantedObject).sizeBytes;
      progress(objects, bytes);
    };
    await this.pool.measureEach(this.unmeasured(wanted, settle), ({ index, opened }, outcome) => {
      opened.data.close();
      settle(index, judged(opened, wanted[index] as WantedObject, outcome));
    });
    return results;
  }

  close(): void {
    for (const { layer } of this.bases) layer.close();
  }

  /** Yields open objects whose digest is not known; the results of all others are settled here. */
  private *unmeasured(wanted: readonly WantedObject[], settle: Settle): Generator<Unmeasured> {
    for (const [index, object] of wanted.entries()) {
      const opened = this.open(object);
      if ('code' in opened) {
        settle(index, opened);
        continue;
      }
      const { data } = opened;
      const algorithm = algorithmOfHex(object.digest) ?? 'sha256';
      const digest = digestByKernel(data, algorithm);
      if (digest === undefined) {
        const work: Work = { fd: data.fd, sizeBytes: data.sizeBytes, algorithm, withLeaves: false };
        yield { index, opened, work };
        continue;
      }
      data.close();
      settle(index, judged(opened, object, { digest }));
    }
  }

  /** Opens the object at the first of its paths that exists. */
  private open({ paths, sizeBytes }: WantedObject): OpenObject | NoOrigin {
    let missing = -ENOENT;
    for (const path of paths) {
      for (const base of this.bases) {
        const data = base.layer.openPath(path);
        if (typeof data !== 'number') return accept(base, path, data, sizeBytes);
        if (missing === -ENOENT) missing = data; // any other error says more
      }
    }
    return {
      object: printable(paths[0] ?? ''),
      code: errnoName(missing),
      message: 'no base directory has such a file',
    };
  }
}

function openBases(directories: readonly ByteString[]): Base[] {
  const bases: Base[] = [];
  try {
    for (const path of directories) {
      const layer = new DirLayer(path);
      const { uuid } = layer;
      bases.push({ layer, uuid });
      const isDuplicate = bases.some(other => other.uuid === uuid && other.layer.filesystem !== layer.filesystem);
      if (uuid === NULL_UUID) throw unusable(layer, EOPNOTSUPP, 'has no uuid');
      if (isDuplicate) throw unusable(layer, ENOTUNIQ, 'has the uuid of another one');
    }
    return bases;
  } catch (error) {
    for (const { layer } of bases) layer.close();
    throw error;
  }
}

const unusable = ({ path }: DirLayer, errno: number, why: string): ErrnoError =>
  new ErrnoError(errno, `${path}: ${errnoText(errno)}: its filesystem ${why}, so that no origin leads there`);

/** Checks an open object in all respects except its digest. If it is refused, it is closed. */
function accept({ layer, uuid }: Base, path: ByteString, data: Data, sizeBytes: number): OpenObject | NoOrigin {
  const object = `${layer.path}/${printable(path)}`;
  const refuse = (code: string, message: string): NoOrigin => {
    data.close();
    return { object, code, message };
  };
  if (data.sizeBytes !== sizeBytes)
    return refuse('EWRONGSIZE', `${data.sizeBytes} bytes, but the image says ${sizeBytes}`);
  const handle = readHandle(data.fd, '');
  if (typeof handle === 'number') return refuse(errnoName(handle), 'its filesystem gives no file handle');
  return { object, data, origin: byteStringOf(formatOrigin({ uuid, handle })) };
}
function judged({ object, origin }: OpenObject, wanted: WantedObject, outcome: Outcome): ByteString | NoOrigin {
  if (!('digest' in outcome)) return { object, code: errnoName(outcome.errno), message: outcome.message };
  const found = Buffer.from(outcome.digest).toString('hex');
  if (found === wanted.digest) return origin;
  return { object, code: 'EWRONGVERITY', message: `its digest is ${found}, but the image says ${wanted.digest}` };
}
