/**
 * What the daemon of a mount with `restart=on` leaves to the next one. The watcher holds the descriptors, and starts the next
 * daemon with the same numbers:
 *
 *     4     /dev/fuse: the connection does not end with the daemon
 *     5, 6  files in memory: a record of the mount, and its backing ids (BackingLedger)
 *     7     written to when the next daemon serves; /dev/null for the first
 *     8 ..  the layers, in their order: an image with its lock, a directory by O_PATH
 */
import { fstatSync, openSync, statSync } from 'node:fs';
import { BackingLedger, type Earlier, type Lasting } from '../../driver/lasting/earlier.ts';
import { holdLayer } from '../../driver/lasting/hold.ts';
import type { InitFlagName } from '../../fuse/init.ts';
import type { Mount } from '../../fuse/mountinfo.ts';
import type { LayerSpec } from '../../overlay/options/lowerdir.ts';
import { type ByteString, bufferOf } from '../../sys/bytes.ts';
import { EINVAL, ErrnoError, must } from '../../sys/errno.ts';
import { native } from '../../sys/native.ts';
import type { MountPlan } from '../plan.ts';
import type { MountState } from '../state.ts';

/** The first number of each kind, in the watcher and in the next daemon. */
export const FUSE_FD = 4;
const RECORD_FD = 5;
const LEDGER_FD = 6;
const CHANNEL_FD = 7;
const LAYERS_FD = 8;

/** The record: a line of JSON. */
export interface MountRecord {
  readonly format: typeof FORMAT;
  readonly pid: number;
  /** As it was at first. */
  readonly plan: MountPlan;
  /** The fs-verity digest of the image, by SHA-256. */
  readonly digest: string | undefined;
  readonly layers: Pick<MountState, 'layers' | 'stored'>;
  readonly connection: { readonly minor: number; readonly flags: readonly InitFlagName[] };
  readonly holdsMerged: boolean;
  readonly mount: Mount | undefined;
  readonly startedAt: number;
}
/** Changes with the meaning of the fields: the program may be another version by the time when it is read. */
export const FORMAT = 1;

const RECORD_BYTES_MAX = 1 << 24;

export class Handover implements Lasting {
  readonly ledger: BackingLedger;
  readonly earlier: Earlier | undefined;
  private readonly record: number;
  private readonly channel: number;
  /** All descriptors but that of the connection, in the order of their numbers. */
  private readonly others: readonly number[];

  private constructor(
    record: number,
    ledger: number,
    channel: number,
    layers: readonly number[],
    earlier: Earlier | undefined,
  ) {
    this.record = record;
    this.channel = channel;
    this.ledger = new BackingLedger(ledger);
    this.others = [record, ledger, channel, ...layers];
    this.earlier = earlier;
  }

  /** That of the first daemon. Relative paths of layers are resolved in the current directory. */
  static prepare(layers: readonly LayerSpec[]): Handover {
    const file = (name: string): number => must(native.memoryFile(name), 'memfd_create');
    const channel = openSync('/dev/null', 'r+');
    return new Handover(
      file('lowerdata-mount'),
      file('lowerdata-backing'),
      channel,
      layers.map(({ path }) => holdLayer(path)),
      undefined,
    );
  }

  /** That of a later daemon. Throws ErrnoError EINVAL if the record is none that this version can use. */
  static take(): { readonly handover: Handover; readonly record: MountRecord } {
    const record = readRecord(RECORD_FD);
    const { holdsMerged, connection } = record;
    const earlier = { holdsMerged, connection: { ...connection, flags: new Set(connection.flags) } };
    const layers = record.plan.stack.layers.map((_, position) => LAYERS_FD + position);
    return { handover: new Handover(RECORD_FD, LEDGER_FD, CHANNEL_FD, layers, earlier), record };
  }

  /** All descriptors in the order of their numbers. @param fuse that of the connection */
  descriptors(fuse: number): number[] {
    return [fuse, ...this.others];
  }

  /** Leaves a record for the next daemon. The watcher must have the descriptors. */
  leave(record: Omit<MountRecord, 'format' | 'pid'>): void {
    const whole: MountRecord = { format: FORMAT, pid: process.pid, ...record };
    const bytes = Buffer.from(`${JSON.stringify(whole)}\n`); // that of an earlier daemon may be longer
    must(native.pwrite(this.record, bytes, 0, bytes.length, 0), 'the record of the mount');
    native.close(this.channel); // only the watcher says that this daemon serves
  }
}

function readRecord(fd: number): MountRecord {
  const { size } = fstatSync(fd);
  const bytes = Buffer.alloc(Math.min(size, RECORD_BYTES_MAX));
  must(native.pread(fd, bytes, 0, bytes.length, 0), 'the record of the mount');
  const [line = ''] = bytes.toString().split('\n', 1);
  const record = JSON.parse(line || 'null') as MountRecord | null;
  if (record?.format === FORMAT) return record;
  throw new ErrnoError(
    EINVAL,
    record ? 'the mount was made by another version of lowerdata' : 'it was not mounted yet',
  );
}

/**
 * The layers by paths that lead to the objects that the first daemon has opened: their own paths, or where those lead to something
 * else by now, the paths of the held descriptors.
 */
export function pathsOfHeld(layers: readonly LayerSpec[], absolute: readonly LayerSpec[]): LayerSpec[] {
  return layers.map(({ dataOnly }, position) => {
    const { path = '' } = absolute[position] ?? {};
    const fd = LAYERS_FD + position;
    return { dataOnly, path: leadsTo(path, fd) ? path : `/proc/self/fd/${fd}` };
  });
}

function leadsTo(path: ByteString, fd: number): boolean {
  try {
    const there = statSync(bufferOf(path), { bigint: true });
    const held = fstatSync(fd, { bigint: true });
    return there.dev === held.dev && there.ino === held.ino;
  } catch {
    return false;
  }
}
