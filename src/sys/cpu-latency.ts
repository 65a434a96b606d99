/**
 * A request to the kernel to keep idle CPUs out of sleep states (PM QoS). It lasts while its file is open.
 * Source: Linux Documentation/power/pm_qos_interface.rst.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { ErrnoError, errnoText } from './errno.ts';

export const CPU_LATENCY_DEVICE = '/dev/cpu_dma_latency';
/**
 * Microseconds that waking may take, as s32: NONE keeps CPUs awake, and ANY means no request. Source:
 * PM_QOS_CPU_LATENCY_DEFAULT_VALUE, pm_qos.h.
 */
const NONE = Int32Array.of(0);
const ANY = Int32Array.of(2_000_000_000);

export class CpuLatency {
  private readonly fd: number;
  private isHeld = false;

  /** Opens the file without a request yet. Throws ErrnoError if that is not allowed or not supported by the kernel. */
  constructor() {
    try {
      this.fd = openSync(CPU_LATENCY_DEVICE, 'w');
    } catch (error) {
      const errno = Math.abs((error as { errno: number }).errno);
      throw new ErrnoError(errno, `${CPU_LATENCY_DEVICE}: ${errnoText(errno)}`);
    }
    writeSync(this.fd, ANY); // opening the file alone already requests zero latency
  }

  get held(): boolean {
    return this.isHeld;
  }

  /** A change takes a system call and wakes CPUs. */
  set held(isHeld: boolean) {
    if (isHeld === this.isHeld) return;
    this.isHeld = isHeld;
    writeSync(this.fd, isHeld ? NONE : ANY);
  }

  close(): void {
    closeSync(this.fd);
  }
}
