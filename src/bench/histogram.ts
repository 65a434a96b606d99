/** The distribution of times: counts in buckets of equal width on a logarithmic scale. */

/** Buckets per doubling of time: each is 9 % wide. */
const PER_DOUBLING = 8;

/**
 * Pairs of a bucket's lower bound in microseconds and its number of operations, in ascending order; empty buckets are left out.
 */
export type Histogram = readonly (readonly [microseconds: number, operations: number])[];

/** The ratio of a bucket's upper bound to its lower bound. */
export const BUCKET_RATIO: number = 2 ** (1 / PER_DOUBLING);

/** Operations by bucket number: bucket k starts at 2^(k/8) ns. */
export type BucketCounts = ReadonlyMap<number, number>;

/** Counts times by bucket. A time below the clock's resolution counts as 1 ns. */
export function countTimes(nanoseconds: Float64Array): BucketCounts {
  const counts = new Map<number, number>();
  for (const time of nanoseconds) {
    const bucket = Math.floor(Math.log2(Math.max(time, 1)) * PER_DOUBLING);
    counts.set(bucket, (counts.get(bucket) ?? 0) + 1);
  }
  return counts;
}

/** Combines several counts into one histogram. */
export function histogramOf(all: readonly BucketCounts[]): Histogram {
  const sums = new Map<number, number>();
  for (const counts of all) for (const [bucket, count] of counts) sums.set(bucket, (sums.get(bucket) ?? 0) + count);
  return [...sums]
    .sort(([a], [b]) => a - b)
    .map(([bucket, count]) => [Number((2 ** (bucket / PER_DOUBLING) / 1000).toPrecision(4)), count]);
}
