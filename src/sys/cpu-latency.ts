/**
 * A request to the kernel that processors shall not sleep where they wait: PM QoS, which is held as long as its file is open.
 * Source: Linux Documentation/power/pm_qos_interface.rst.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { ErrnoError, errnoName } from './errno.ts';

export const CPU_LATENCY_DEVICE = '/dev/cpu_dma_latency';
/** Microseconds that waking may take, as s32: none, and what is no request. Source: PM_QOS_CPU_LATENCY_DEFAULT_VALUE, pm_qos.h. */
const NONE = Int32Array.of(0);
const ANY = Int32Array.of(2_000_000_000);

export class CpuLatency {
  private readonly fd: number;
  private isHeld = false;

  /** Asks for nothing yet. Throws ErrnoError where that is not allowed, or not in this kernel. */
  constructor() {
    try {
      this.fd = openSync(CPU_LATENCY_DEVICE, 'w');
    } catch (error) {
      const errno = Math.abs((error as { errno: number }).errno);
      throw new ErrnoError(errno, `${CPU_LATENCY_DEVICE}: ${errnoName(errno)}`);
    }
    writeSync(this.fd, ANY); // an open file alone asks for the same
  }

  get held(): boolean {
    return this.isHeld;
  }

  /** Costs a system call, and wakes processors, where it changes anything. */
  set held(isHeld: boolean) {
    if (isHeld === this.isHeld) return;
    this.isHeld = isHeld;
    writeSync(this.fd, isHeld ? NONE : ANY);
  }

  close(): void {
    closeSync(this.fd);
  }
}
