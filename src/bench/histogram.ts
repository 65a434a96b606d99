/** How times are distributed: counts in buckets of equal width on a logarithmic scale. */

/** Buckets from a time to twice that time: each is 9 % wide. */
const PER_DOUBLING = 8;

/** Pairs of a bucket's lower bound in microseconds and how many operations it holds; empty ones are left out. In order. */
export type Histogram = readonly (readonly [microseconds: number, operations: number])[];

/** How many times as long the upper bound of a bucket is as its lower one. */
export const BUCKET_RATIO: number = 2 ** (1 / PER_DOUBLING);

/** Counts by the number of the bucket: k holds times from 2^(k/8) ns. */
export type Counts = ReadonlyMap<number, number>;

/** A time that the clock can not tell from none counts as 1 ns. */
export function countTimes(nanoseconds: Float64Array): Counts {
  const counts = new Map<number, number>();
  for (const time of nanoseconds) {
    const bucket = Math.floor(Math.log2(Math.max(time, 1)) * PER_DOUBLING);
    counts.set(bucket, (counts.get(bucket) ?? 0) + 1);
  }
  return counts;
}

/** One histogram of several counts. */
export function histogramOf(all: readonly Counts[]): Histogram {
  const sums = new Map<number, number>();
  for (const counts of all) for (const [bucket, count] of counts) sums.set(bucket, (sums.get(bucket) ?? 0) + count);
  return [...sums]
    .sort(([a], [b]) => a - b)
    .map(([bucket, count]) => [Number((2 ** (bucket / PER_DOUBLING) / 1000).toPrecision(4)), count]);
}
