/** Checks the objects of a stack: each must exist and have the right size and digest. */
import type { Data } from '../layers/layer.ts';
import type { Finding } from '../mount/finding.ts';
import type { Node } from '../overlay/node.ts';
import type { Overlay } from '../overlay/overlay.ts';
import type { Check } from '../overlay/verifier.ts';
import { type ByteString, printable } from '../sys/bytes.ts';
import { EEXIST, EIO, ENOTTY, EOPNOTSUPP, ErrnoError, errnoText } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { ALGORITHMS, DEFAULTS } from '../verity/algorithms.ts';
import { VerityError } from '../verity/error.ts';
import type { MeasurePool, WithWork } from '../verity/measure-pool.ts';
import type { Outcome, Work } from '../verity/measure-worker.ts';
import type { InventoryEntry } from './inventory.ts';

/** The remedy for each code of a defect; all other codes are names of errnos, and their message says enough. */
const HELP: Readonly<Record<string, string>> = {
  EWRONGVERITY: 'put the object back from where it came',
  EWRONGSIZE: 'put the object back from where it came',
  ENOVERITY: 'make the image again with digests, or mount without verity=require',
  ENOENT: 'add the layer that has the object',
};

/** The counts of one run, in files unless noted. */
export interface Counts {
  files: number;
  /** Files whose data is elsewhere; `bytes` is the size of that data. */
  objects: number;
  bytes: number;
  /** Files whose object another file has as well: the object is read once. */
  shared: number;
  /** Files whose object was found good by an earlier run. */
  known: number;
  /** Files whose object exists and has the right size, but for which there is no digest. */
  withoutDigest: number;
  problems: number;
  /** With --enable-verity: objects for which it was enabled now, was enabled before, or is not possible on their filesystem. */
  verityEnabled: number;
  verityThere: number;
  verityImpossible: number;
}

/** Remembers the objects that are good, so that they are not read again. A key stands for an object's version and its digest. */
export interface Journal {
  has(key: string): boolean;
  add(key: string): void;
}

export interface ObjectCheckOptions {
  readonly overlay: Overlay;
  readonly pool: MeasurePool;
  readonly journal: Journal;
  readonly enableVerity: boolean;
  readonly signal: AbortSignal;
  /** Gets each defect, with the first path that leads to it. Its code is EWRONGVERITY, ENOVERITY, EWRONGSIZE or an errno. */
  readonly report: (finding: Finding) => void;
  readonly progress: (objects: number, bytes: number) => void;
}

/** An open object that is to be measured. */
interface UnmeasuredObject extends WithWork {
  readonly path: ByteString;
  readonly data: Data;
  readonly check: Check;
}

export class ObjectCheck {
  readonly counts: Counts = {
    ...{ files: 0, objects: 0, bytes: 0, shared: 0, known: 0, withoutDigest: 0, problems: 0 },
    ...{ verityEnabled: 0, verityThere: 0, verityImpossible: 0 },
  };
  private readonly options: ObjectCheckOptions;
  /** Keys of the objects that this run checks. */
  private readonly seen = new Set<string>();

  constructor(options: ObjectCheckOptions) {
    this.options = options;
  }

  /** Checks the data of all files; may be called only once. The promise resolves early when `signal` aborts. */
  async run(files: Iterable<InventoryEntry>): Promise<void> {
    const { pool, signal } = this.options;
    await pool.measureEach(this.unmeasured(files), (opened, outcome) => this.settle(opened, outcome), signal);
  }

  /** Yields open objects for the threads to measure. Data in an image is measured on this thread instead. */
  private *unmeasured(files: Iterable<InventoryEntry>): Generator<UnmeasuredObject> {
    for (const file of files) {
      if (this.options.signal.aborted) return;
      const opened = this.open(file);
      if (opened === undefined) continue;
      if (opened.data.fd >= 0) yield opened;
      else this.settle(opened, undefined);
    }
  }

  /** Opens an object. @returns undefined if none of it needs to be measured */
  private open(found: InventoryEntry): UnmeasuredObject | undefined {
    const { path } = found;
    try {
      if ('error' in found) throw found.error;
      return this.openObject(path, found.node);
    } catch (error) {
      this.failed(path, error);
      return undefined;
    }
  }

  private openObject(path: ByteString, node: Node): UnmeasuredObject | undefined {
    const { overlay, journal, progress } = this.options;
    this.counts.files++;
    if (node.data === undefined) return undefined; // the data is its own
    this.counts.objects++;
    const data = overlay.find(node);
    if (typeof data === 'number') throw new ErrnoError(-data, `no data-only layer has ${shownPlace(node)}`);
    try {
      const size = data.sizeBytes;
      this.counts.bytes += size;
      if (size !== node.top.sizeBytes) throw new SizeError(data.place, size, node.top.sizeBytes);
      const check = overlay.check(node, data);
      const key = check && journalKey(check);
      if (check && key && !this.seen.has(key) && !journal.has(key)) {
        this.seen.add(key);
        return { path, data, check, work: workOf(data, check) };
      }
      if (key === undefined) this.counts.withoutDigest++;
      else if (this.seen.has(key)) this.counts.shared++;
      else this.counts.known++;
      progress(1, size);
    } catch (error) {
      data.close();
      throw error;
    }
    data.close();
    return undefined;
  }

  private settle({ path, data, check }: UnmeasuredObject, outcome: Outcome | undefined): void {
    if (!this.options.signal.aborted) this.judge(path, check, outcome);
    data.close();
    this.options.progress(1, check.sizeBytes);
  }

  /** @param outcome undefined: the data is in an image, and is measured here */
  private judge(path: ByteString, check: Check, outcome: Outcome | undefined): void {
    try {
      if (outcome === undefined) check.measure(false);
      else if ('digest' in outcome) check.learn({ ...outcome, byKernel: false });
      else throw new ErrnoError(outcome.errno, `${check.data.place}: ${outcome.message}`);
      if (this.options.enableVerity) this.enableVerity(check);
      this.options.journal.add(journalKey(check));
    } catch (error) {
      this.failed(path, error);
    }
  }

  /** Enables fs-verity on an object that is good. */
  private enableVerity({ data, algorithm }: Check): void {
    const result =
      data.fd < 0 ? -EOPNOTSUPP : native.enableVerity(data.fd, ALGORITHMS[algorithm].number, DEFAULTS.blockBytes);
    if (result === 0) this.counts.verityEnabled++;
    else if (result === -EEXIST) this.counts.verityThere++;
    else if (result === -ENOTTY || result === -EOPNOTSUPP) this.counts.verityImpossible++;
    else throw new ErrnoError(-result, `${data.place}: fs-verity cannot be enabled: ${errnoText(result)}`);
  }

  private failed(path: ByteString, error: unknown): void {
    if (!(error instanceof ErrnoError)) throw error;
    this.counts.problems++;
    const code = error instanceof VerityError || error instanceof SizeError ? error.code : error.name;
    const message = error.message.replace(`${code}: `, '');
    this.options.report({ path, code, message, help: HELP[code] ?? '' });
  }
}

class SizeError extends ErrnoError {
  readonly code = 'EWRONGSIZE';

  constructor(place: string, found: number, wanted: number) {
    super(EIO, `EWRONGSIZE: ${place}: the data has ${found} bytes, but its metacopy says ${wanted}`);
  }
}

const workOf = ({ fd }: Data, { sizeBytes, algorithm }: Check): Work => ({
  fd,
  sizeBytes,
  algorithm,
  withLeaves: false,
});

/** The journal key of a check. It differs for each version of the object and each digest. */
export const journalKey = ({ key, digest }: Pick<Check, 'key' | 'digest'>): string =>
  `${Buffer.from(key, 'utf16le').toString('hex')} ${Buffer.from(digest).toString('hex')}`;

const shownPlace = ({ data }: Node): string =>
  typeof data === 'string' ? printable(data) || 'its origin' : 'its data';
