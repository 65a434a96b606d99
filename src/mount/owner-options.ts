/** Reads the options that map owners. Source: fuse-overlayfs(1); containers/storage, drivers/overlay/overlay.go. */
import type { IdRange, IdView, OwnerOptions } from '../driver/owners.ts';
import { type ByteString, printable } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';

/** 2^32 - 1 is no id: it means "unchanged" in chown(2). */
const IDS = 2 ** 32 - 1;

/**
 * Reads `STORED:SHOWN:COUNT`, any number of times, joined by colons. Empty parts do not count: containers/storage begins with one.
 * @param key the option, for the message
 * Throws ErrnoError EINVAL for anything else, and for ranges that overlap on one side.
 */
export function parseRanges(value: ByteString, key: ByteString): IdRange[] {
  const refuse = (why: string): never => {
    throw new ErrnoError(EINVAL, `option ${key}=${printable(value)}: ${why}`);
  };
  const parts = value.split(':').filter(part => part !== '');
  if (parts.length === 0 || parts.length % 3 !== 0) refuse('not STORED:SHOWN:COUNT, once or more often');
  for (const part of parts) if (!/^\d{1,10}$/.test(part)) refuse(`${printable(part)} is not a number`);
  const ranges = Array.from({ length: parts.length / 3 }, (_, i): IdRange => {
    const [stored = 0, shown = 0, count = 0] = parts.slice(3 * i, 3 * i + 3).map(Number);
    if (count === 0) refuse(`${stored}:${shown}:0 is a range without ids`);
    if (Math.max(stored, shown) + count > IDS) refuse(`${stored}:${shown}:${count} goes past the last id, ${IDS - 1}`);
    return { stored, shown, count };
  });
  for (const side of ['stored', 'shown'] as const) {
    const twice = firstInTwo(ranges, side);
    if (twice !== undefined) refuse(`${twice} is ${side} in two ranges`);
  }
  return ranges;
}

/** The first id of a range that another range has, too, on one side. */
function firstInTwo(ranges: readonly IdRange[], side: 'stored' | 'shown'): number | undefined {
  const sorted = ranges.toSorted((a, b) => a[side] - b[side]);
  return sorted.find((range, i) => {
    const before = sorted[i - 1];
    return before !== undefined && before[side] + before.count > range[side];
  })?.[side];
}

/** Reads one id. Throws as parseRanges does. */
export function parseId(value: ByteString, key: ByteString): number {
  if (/^\d{1,10}$/.test(value) && Number(value) < IDS) return Number(value);
  throw new ErrnoError(EINVAL, `option ${key}=${printable(value)}: not an id from 0 to ${IDS - 1}`);
}

/** The owners of a mount after one more option. */
export function withView(before: OwnerOptions | undefined, of: keyof OwnerOptions, part: IdView): OwnerOptions {
  const owners = before ?? { uids: {}, gids: {} };
  return { ...owners, [of]: { ...owners[of], ...part } };
}
