/** What is counted of requests: how many of each operation, how long they took, and what errors they got. */

import { type Counters, count, newCounters } from '../sys/counters.ts';
import { EIO, errnoName } from '../sys/errno.ts';
import { Opcode, opcodeName } from './opcode.ts';

/** Opcodes with numbers of their own; all others share those of 0, which is none. */
const OPCODES = 64;
/** The kernel takes -1 to -511 for an error. */
const ERRNOS = 512;
/** Bucket b counts what took at most 2^b nanoseconds and more than 2^(b-1); the last one, whatever took longer. */
const BUCKETS = 34;

/**
 * Of each opcode:
 *
 *     0          nanoseconds in all
 *     1          bytes that READ gave
 *     2          requests by time, BUCKETS numbers
 *     2+BUCKETS  requests by error, ERRNOS numbers, of which those that came are memory at all
 */
const NANOSECONDS = 0;
const BYTES = 1;
const TIMES = 2;
const ERRORS = TIMES + BUCKETS;
const STRIDE = ERRORS + ERRNOS;

/** The requests of one operation. */
export interface OperationNumbers {
  /** As in `enum fuse_opcode`, without its prefix; `OTHER` for those without a name here. */
  readonly operation: string;
  readonly count: number;
  readonly nanoseconds: number;
  /** How many took at most 2^b nanoseconds, and more than bucket b - 1 has; the last one has all that took longer. */
  readonly buckets: readonly number[];
  /** By name: ENOENT and the like are answers as well as errors. */
  readonly errors: Readonly<Record<string, number>>;
}

export interface RequestNumbers {
  /** Those that were asked for, by opcode. */
  readonly operations: readonly OperationNumbers[];
  /** What was read through this process. */
  readonly readBytes: number;
}

export class RequestCounts {
  readonly counters: Counters = newCounters(OPCODES * STRIDE);

  /**
   * An answer is made. @param result bytes or -errno @param milliseconds from its arrival on
   * With two readings of the clock it is 78 ns of a request; with one, where the loop that received it has just looked, 42, which
   * is 1 % of a lookup with its system calls: scripts/bench/request-counts.ts.
   */
  answered(opcode: number, result: number, milliseconds: number): void {
    const { counters } = this;
    const at = (opcode < OPCODES ? opcode : 0) * STRIDE;
    const nanoseconds = milliseconds * 1e6;
    count(counters, at + NANOSECONDS, nanoseconds);
    count(counters, at + TIMES + bucketOf(nanoseconds));
    if (result < 0) count(counters, at + ERRORS + (result > -ERRNOS ? -result : EIO));
    else if (opcode === Opcode.READ) count(counters, at + BYTES, result);
  }

  /** On any thread. */
  static read(counters: Counters): RequestNumbers {
    const operations = Array.from({ length: OPCODES }, (_, opcode) => operationOf(counters, opcode));
    return {
      operations: operations.filter(operation => operation.count > 0),
      readBytes: counters[Opcode.READ * STRIDE + BYTES] as number,
    };
  }
}

function bucketOf(nanoseconds: number): number {
  const whole = Math.ceil(nanoseconds);
  return whole > 2 ** 32 ? BUCKETS - 1 : whole < 1 ? 0 : 32 - Math.clz32(whole - 1);
}

function operationOf(counters: Counters, opcode: number): OperationNumbers {
  const own = counters.subarray(opcode * STRIDE, (opcode + 1) * STRIDE);
  const times = own.subarray(TIMES, ERRORS);
  const errors = [...own.subarray(ERRORS)].flatMap((many, errno) => (many > 0 ? [[errnoName(errno), many]] : []));
  return {
    operation: opcode === 0 ? 'OTHER' : opcodeName(opcode),
    count: times.reduce((sum, many) => sum + many, 0),
    nanoseconds: Math.round(own[NANOSECONDS] as number),
    buckets: [...times],
    errors: Object.fromEntries(errors),
  };
}
