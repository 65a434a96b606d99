/** A filter that permanently refuses system calls to all threads of the process. Source: seccomp(2), linux/filter.h. */
import { ENOSYS, EPERM } from '../errno.ts';
import { native } from '../native.ts';
import { HIGHEST_CALL, machineOf, type SystemCall, systemCalls } from './system-calls.ts';

/** struct sock_filter. Source: linux/filter.h. */
const Instruction = { code: 0 /* u16 */, jt: 2 /* u8 */, jf: 3 /* u8 */, k: 4 /* u32 */, SIZE: 8 } as const;
/** struct seccomp_data. Source: linux/seccomp.h. */
const SeccompData = { nr: 0 /* i32 */, arch: 4 /* u32 */, args: 16 /* u64 each, the low half first */ } as const;

const LOAD = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP_EQUAL = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_AT_LEAST = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const JUMP_SET = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const RETURN = 0x06; // BPF_RET | BPF_K
const ALLOW = 0x7fff0000;
const REFUSE = 0x00050000 | EPERM;
/** C libraries fall back to another call on ENOSYS. */
const MISSING = 0x00050000 | ENOSYS;
/** System calls of x32, another table of x86-64, start at this number. */
const X32 = 0x40000000;

const SECCOMP_SET_MODE_FILTER = 1;
const SECCOMP_FILTER_FLAG_TSYNC = 1;

/** A condition on the low half of an argument, under which a call is allowed. */
export interface ArgumentRule {
  readonly call: SystemCall;
  /** Position of the argument, from 0. */
  readonly argument: number;
  /** Values of which the argument must be one, if there are any. */
  readonly equal?: readonly number[];
  readonly notEqual?: readonly number[];
  /** Bits of which at least one must be set. `withoutBits` are bits that must all be clear. */
  readonly withBits?: number;
  readonly withoutBits?: number;
}

export interface Refused {
  /** Calls that are answered with EPERM. */
  readonly calls: readonly SystemCall[];
  /** Calls that are answered with ENOSYS. */
  readonly missing?: readonly SystemCall[];
  readonly unless?: readonly ArgumentRule[];
}

type Step = readonly [code: number, ifTrue: number, ifFalse: number, k: number];

/**
 * The program that refuses these system calls. It also refuses all calls by other machines' tables, such as 32-bit ones. Calls
 * with numbers above HIGHEST_CALL are answered with ENOSYS, and everything else is allowed. undefined for a machine that is not
 * known here.
 */
export function refusal(refused: Refused, machine = process.arch): Uint8Array | undefined {
  const known = machineOf(machine);
  if (!known) return undefined;
  const { calls, missing = [], unless = [] } = refused;
  const numberOf = (call: SystemCall): number | undefined => systemCalls[call][known.column];
  const answers = [
    ...calls.map(call => [numberOf(call), [[RETURN, 0, 0, REFUSE]]] as const),
    ...missing.map(call => [numberOf(call), [[RETURN, 0, 0, MISSING]]] as const),
    ...unless.map(rule => [numberOf(rule.call), judged(rule)] as const),
  ];
  const program: Step[] = [
    [LOAD, 0, 0, SeccompData.arch],
    [JUMP_EQUAL, 1, 0, known.audit],
    [RETURN, 0, 0, REFUSE],
    [LOAD, 0, 0, SeccompData.nr],
    [JUMP_AT_LEAST, 0, 1, X32],
    [RETURN, 0, 0, REFUSE],
    [JUMP_AT_LEAST, 0, 1, HIGHEST_CALL + 1],
    [RETURN, 0, 0, MISSING],
  ];
  for (const [number, steps] of answers)
    if (number !== undefined) program.push([JUMP_EQUAL, 0, steps.length, number], ...(steps as readonly Step[]));
  program.push([RETURN, 0, 0, ALLOW]);
  return encoded(program);
}

/** Filter steps for a rule; they end in an answer for every value of the argument. */
function judged({ argument, equal = [], notEqual = [], withBits = 0, withoutBits = 0 }: ArgumentRule): Step[] {
  const refuse: Step = [RETURN, 0, 0, REFUSE];
  const steps: Step[] = [[LOAD, 0, 0, SeccompData.args + 8 * argument]];
  for (const value of notEqual) steps.push([JUMP_EQUAL, 0, 1, value], refuse);
  if (withoutBits !== 0) steps.push([JUMP_SET, 0, 1, withoutBits], refuse);
  if (withBits !== 0) steps.push([JUMP_SET, 1, 0, withBits], refuse);
  for (const value of equal) steps.push([JUMP_EQUAL, 0, 1, value], [RETURN, 0, 0, ALLOW]);
  steps.push(equal.length > 0 ? refuse : [RETURN, 0, 0, ALLOW]);
  return steps;
}

function encoded(program: readonly Step[]): Uint8Array {
  const bytes = new Uint8Array(program.length * Instruction.SIZE);
  const view = new DataView(bytes.buffer);
  for (const [i, [code, jt, jf, k]] of program.entries()) {
    const at = i * Instruction.SIZE;
    view.setUint16(at + Instruction.code, code, true);
    view.setUint8(at + Instruction.jt, jt);
    view.setUint8(at + Instruction.jf, jf);
    view.setUint32(at + Instruction.k, k, true);
  }
  return bytes;
}

/**
 * Applies the program to every thread of the process, including later ones. Needs no_new_privs, which all threads have
 * afterwards.
 * @returns 0, -errno, or the ID of a thread with a different filter; then no thread gets this one
 */
export const applyToAllThreads = (program: Uint8Array): number =>
  native.seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, program);
