/** What this process may do. Source: capabilities(7), user_namespaces(7). */
import { readFileSync } from 'node:fs';

export const CAP_DAC_READ_SEARCH = 2;
export const CAP_SYS_ADMIN = 21;

/** Whether a capability is effective, in the user namespace of the process. */
export function hasCapability(capability: number): boolean {
  const [, effective = '0'] = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'latin1')) ?? [];
  return ((BigInt(`0x${effective}`) >> BigInt(capability)) & 1n) === 1n;
}

/** Whether the process is in the first user namespace, where capabilities are good for the whole system. */
export function inInitialUserNamespace(): boolean {
  return /^\s*0\s+0\s+4294967295\s*$/.test(readFileSync('/proc/self/uid_map', 'latin1'));
}

/** How many descriptors the process may have open: its soft limit. */
export function openFilesMax(): number {
  const [, limit = '1024'] = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1')) ?? [];
  return Number(limit);
}
