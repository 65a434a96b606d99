/** Counts requests by operation, and records how long they took and which errors they got. */

import { type Counters, count, newCounters } from '../sys/counters.ts';
import { EIO, errnoName } from '../sys/errno.ts';
import { Opcode, opcodeName } from './wire/opcode.ts';

/** Opcodes below this one have numbers of their own. All others share the slot of opcode 0, which no request has. */
const OPCODES = 64;
/** The kernel accepts -1 to -511 as an error. */
const ERRNOS = 512;
/** Bucket b counts requests that took more than 2^(b-1) and at most 2^b nanoseconds. The last bucket has all longer ones. */
const BUCKETS = 34;

/**
 * The numbers of one opcode, by their offset:
 *
 *     0          total nanoseconds
 *     1          bytes that READ returned
 *     2          requests by duration, BUCKETS numbers
 *     2+BUCKETS  requests by errno, ERRNOS numbers; only pages that are written take up memory
 */
const NANOSECONDS = 0;
const BYTES = 1;
const TIMES = 2;
const ERRORS = TIMES + BUCKETS;
const STRIDE = ERRORS + ERRNOS;

/** The requests of one operation. */
export interface OperationNumbers {
  /** The name in `enum fuse_opcode` without its prefix; `OTHER` for opcodes from OPCODES on. */
  readonly operation: string;
  readonly count: number;
  readonly nanoseconds: number;
  /** Bucket b counts requests that took more than 2^(b-1) and at most 2^b nanoseconds. The last bucket has all longer ones. */
  readonly buckets: readonly number[];
  /** Counts by errno name. Some errors, such as ENOENT, are ordinary answers. */
  readonly errors: Readonly<Record<string, number>>;
}

export interface RequestNumbers {
  /** The operations that were requested at least once, by opcode. */
  readonly operations: readonly OperationNumbers[];
  /** Bytes read through this process; passthrough reads are not included. */
  readonly readBytes: number;
}

export class RequestCounts {
  readonly counters: Counters = newCounters(OPCODES * STRIDE);

  /**
   * Records that a request was answered. It takes 78 ns a request with two readings of the clock. It takes 42 ns if the receiving
   * loop has just read the clock, which is 1 % of a lookup with its system calls: scripts/bench/request-counts.ts.
   * @param result bytes of the reply's body, or -errno
   * @param milliseconds time since the request arrived
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

  /** Reads the numbers of a RequestCounts by its counters. Works on any thread. */
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
