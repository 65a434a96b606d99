/**
 * io_uring(7): calls are written into memory shared with the kernel, and their results are read from it.
 * Source: Linux include/uapi/linux/io_uring.h (6.14); io_uring_setup(2), io_uring_enter(2).
 */
import { putU64 } from './bytes.ts';
import { EINTR, ErrnoError, errnoText, must } from './errno.ts';
import { mapMemory } from './memory.ts';
import { native } from './native.ts';

/** struct io_uring_params, with the fields used here of its struct io_sqring_offsets and io_cqring_offsets. */
const Params = {
  sq_entries: 0, // u32
  cq_entries: 4, // u32
  flags: 8, // u32  SETUP_* bits
  sq_off_head: 40, // u32
  sq_off_tail: 44, // u32
  cq_off_head: 80, // u32
  cq_off_tail: 84, // u32
  cq_off_cqes: 100, // u32
  SIZE: 120,
} as const;

const SETUP_SQE128 = 1 << 10;
const SETUP_COOP_TASKRUN = 1 << 8; // completions run inside system calls of this thread; poll(2) still reports them
const SETUP_SINGLE_ISSUER = 1 << 12;
const SETUP_NO_SQARRAY = 1 << 16;
const OFF_SQ_RING = 0; // also holds the completion ring, since 5.4
const OFF_SQES = 0x10000000;
const ENTER_GETEVENTS = 1 << 0;

/** struct io_uring_sqe of 128 bytes. */
const Sqe = {
  opcode: 0, // u8
  fd: 4, // i32
  cmd_op: 8, // u32  of URING_CMD
  addr: 16, // u64
  len: 24, // u32
  op_flags: 28, // u32  poll32_events of POLL_ADD
  user_data: 32, // u64
  cmd: 48, // 80 bytes, of URING_CMD
  SIZE: 128,
} as const;

const OP_POLL_ADD = 6;
const OP_URING_CMD = 46;
const POLLIN = 1;

/** struct io_uring_cqe, as offsets in 32-bit words. */
const Cqe = { userData: 0, result: 2, WORDS: 4 } as const;

/** A ring of one thread: only the thread that made it may use it. */
export class IoUring {
  /** The completion that `take` took last: the number that was given with the call, and the call's result. */
  userData = 0;
  result = 0;
  /** Readable when a call has completed. */
  readonly descriptor: number;
  private readonly entries: number;
  /** Memory of the prepared calls; `command` returns offsets in it. */
  readonly submissions: DataView;
  private readonly words: Int32Array;
  private readonly completions: Int32Array;
  private readonly completionMask: number;
  /** Indices into `words`. */
  private readonly sqTail: number;
  private readonly cqHead: number;
  private readonly cqTail: number;
  private tail = 0;
  private prepared = 0;

  /**
   * @param entries calls that can be prepared at a time, a power of two
   * Throws ErrnoError if io_uring is not available.
   */
  constructor(entries: number) {
    const params = new DataView(new ArrayBuffer(Params.SIZE));
    const flags = SETUP_SQE128 | SETUP_SINGLE_ISSUER | SETUP_COOP_TASKRUN | SETUP_NO_SQARRAY;
    params.setUint32(Params.flags, flags, true);
    this.descriptor = must(native.uringSetup(entries, new Uint8Array(params.buffer)), 'io_uring_setup');
    const of = (field: number): number => params.getUint32(field, true);
    this.entries = of(Params.sq_entries);
    const completions = of(Params.cq_entries);
    const ringBytes = of(Params.cq_off_cqes) + completions * Cqe.WORDS * 4;
    const ring = mapMemory(this.descriptor, OFF_SQ_RING, ringBytes);
    this.words = new Int32Array(ring, 0, ringBytes >> 2);
    this.completions = new Int32Array(ring, of(Params.cq_off_cqes), completions * Cqe.WORDS);
    this.completionMask = completions - 1;
    this.sqTail = of(Params.sq_off_tail) >> 2;
    this.cqHead = of(Params.cq_off_head) >> 2;
    this.cqTail = of(Params.cq_off_tail) >> 2;
    this.submissions = new DataView(mapMemory(this.descriptor, OFF_SQES, this.entries * Sqe.SIZE));
  }

  /** Prepares a call that completes when `fd` is readable or closed. */
  poll(fd: number, userData: number): void {
    const at = this.prepare(OP_POLL_ADD, fd, userData);
    this.submissions.setUint32(at + Sqe.op_flags, POLLIN, true);
  }

  /**
   * Prepares a command that is specific to the file.
   * @param address address of `count` structures, or 0
   * @returns the offset of the command's 80 bytes in `submissions`, all of them zero
   */
  command(fd: number, userData: number, operation: number, address = 0, count = 0): number {
    const at = this.prepare(OP_URING_CMD, fd, userData);
    this.submissions.setUint32(at + Sqe.cmd_op, operation, true);
    putU64(this.submissions, at + Sqe.addr, address);
    this.submissions.setUint32(at + Sqe.len, count, true);
    return at + Sqe.cmd;
  }

  /** Prepares the next submission, zeroed except for these fields. @returns its offset */
  private prepare(opcode: number, fd: number, userData: number): number {
    if (this.prepared === this.entries) this.submit();
    const at = (this.tail++ & (this.entries - 1)) * Sqe.SIZE;
    this.prepared++;
    for (let word = at; word < at + Sqe.SIZE; word += 4) this.submissions.setUint32(word, 0, true);
    this.submissions.setUint8(at + Sqe.opcode, opcode);
    this.submissions.setInt32(at + Sqe.fd, fd, true);
    this.submissions.setUint32(at + Sqe.user_data, userData, true);
    return at;
  }

  /** Submits the prepared calls, and lets the kernel post completions. Throws ErrnoError. */
  submit(): void {
    Atomics.store(this.words, this.sqTail, this.tail);
    const taken = native.uringEnter(this.descriptor, this.prepared, ENTER_GETEVENTS);
    if (taken >= 0) this.prepared -= taken;
    else if (taken !== -EINTR) throw new ErrnoError(-taken, `io_uring_enter: ${errnoText(taken)}`);
  }

  /** Takes the next completion. @returns whether there was one */
  take(): boolean {
    const head = this.words[this.cqHead] as number;
    if (head === Atomics.load(this.words, this.cqTail)) return false;
    const at = (head & this.completionMask) * Cqe.WORDS;
    this.userData = this.completions[at + Cqe.userData] as number;
    this.result = this.completions[at + Cqe.result] as number;
    Atomics.store(this.words, this.cqHead, head + 1);
    return true;
  }
}
