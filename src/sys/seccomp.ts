/** A filter that refuses system calls to all threads of the process, for good. Source: seccomp(2), linux/filter.h. */
import { EPERM } from './errno.ts';
import { native } from './native.ts';
import { machineOf, type SystemCall, systemCalls } from './system-calls.ts';

/** struct sock_filter. Source: linux/filter.h. */
const Instruction = { code: 0 /* u16 */, jt: 2 /* u8 */, jf: 3 /* u8 */, k: 4 /* u32 */, SIZE: 8 } as const;
/** struct seccomp_data. Source: linux/seccomp.h. */
const SeccompData = { nr: 0 /* i32 */, arch: 4 /* u32 */ } as const;

const LOAD = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP_EQUAL = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_AT_LEAST = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN = 0x06; // BPF_RET | BPF_K
const ALLOW = 0x7fff0000;
const REFUSE = 0x00050000 | EPERM;
/** Calls of x32, another table of x86-64, begin here. */
const X32 = 0x40000000;

const SECCOMP_SET_MODE_FILTER = 1;
const SECCOMP_FILTER_FLAG_TSYNC = 1;

/**
 * The program that answers EPERM to some system calls, and to all calls by the tables of other machines that the kernel has,
 * too; everything else is allowed. undefined for a machine that is not known here.
 */
export function refusal(names: readonly SystemCall[], machine = process.arch): Uint8Array | undefined {
  const known = machineOf(machine);
  if (!known) return undefined;
  const numbers = names.map(name => systemCalls[name][known.column]).filter(number => number !== undefined);
  const program: [code: number, ifTrue: number, ifFalse: number, k: number][] = [
    [LOAD, 0, 0, SeccompData.arch],
    [JUMP_EQUAL, 1, 0, known.audit],
    [RETURN, 0, 0, REFUSE],
    [LOAD, 0, 0, SeccompData.nr],
    [JUMP_AT_LEAST, 0, 1, X32],
    [RETURN, 0, 0, REFUSE],
  ];
  for (const number of numbers) program.push([JUMP_EQUAL, 0, 1, number], [RETURN, 0, 0, REFUSE]);
  program.push([RETURN, 0, 0, ALLOW]);
  return encoded(program);
}

function encoded(program: readonly (readonly [number, number, number, number])[]): Uint8Array {
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
 * Has the kernel refuse calls to every thread of the process, those that start later included. Needs no_new_privs, which all
 * threads have afterwards. @returns 0, -errno, or the id of a thread that has another filter; then none has this one
 */
export const applyToAllThreads = (program: Uint8Array): number =>
  native.seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, program);
