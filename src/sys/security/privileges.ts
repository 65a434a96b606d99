/** The privileges of a process and its threads, and how to drop them. Source: capabilities(7), user_namespaces(7). */
import { readFileSync } from 'node:fs';
import { native } from '../native.ts';
import { onThread, THIS_THREAD, type Thread } from '../processes/threads.ts';

export const CAP_DAC_READ_SEARCH = 2;
export const CAP_SYS_ADMIN = 21;
/** The capabilities by which files of other users are made and changed, by name. Source: linux/capability.h. */
export const WRITING_CAPABILITIES = {
  CAP_CHOWN: 0,
  CAP_DAC_OVERRIDE: 1,
  CAP_FOWNER: 3,
  CAP_FSETID: 4,
  CAP_LINUX_IMMUTABLE: 9,
  CAP_SYS_RESOURCE: 24,
  CAP_MKNOD: 27,
  CAP_SETFCAP: 31,
} as const;

const PR_CAPBSET_DROP = 24;
const PR_SET_NO_NEW_PRIVS = 38;

/** The contents of a file in /proc; '' if /proc is not mounted, because commands that only read a stack work without it. */
function contentsOf(file: string): string {
  try {
    return readFileSync(file, 'latin1');
  } catch {
    return '';
  }
}

/** Whether a capability is effective in the calling thread, in the user namespace of the process. */
export function hasCapability(capability: number): boolean {
  const [, effective = '0'] = /^CapEff:\s*([0-9a-f]+)$/m.exec(contentsOf('/proc/thread-self/status')) ?? [];
  return ((BigInt(`0x${effective}`) >> BigInt(capability)) & 1n) === 1n;
}

/** Whether the calling thread has any capability, or could have one again. */
export function hasAnyCapability(): boolean {
  const status = contentsOf('/proc/thread-self/status');
  const sets = [...status.matchAll(/^Cap(?:Eff|Prm):\s*([0-9a-f]+)$/gm)];
  return sets.length === 0 || sets.some(([, bits]) => /[^0]/.test(bits as string));
}

/** Whether the process is in the initial user namespace, where capabilities apply to the whole system. */
export function inInitialUserNamespace(): boolean {
  return /^\s*0\s+0\s+4294967295\s*$/.test(contentsOf('/proc/self/uid_map'));
}

/** The soft limit for the process's open descriptors. */
export function openFilesMax(): number {
  const [, limit = '1024'] = /^Max open files\s+(\d+)/m.exec(contentsOf('/proc/self/limits')) ?? [];
  return Number(limit);
}

/** The ids that stand for those which a user namespace does not have. */
export function overflowIds(): { uid: number; gid: number } {
  const idIn = (file: string): number => Number(contentsOf(`/proc/sys/kernel/${file}`) || 65534);
  return { uid: idIn('overflowuid'), gid: idIn('overflowgid') };
}

/** Limits the capabilities that programs started by this thread can ever have. Has no effect if that is not allowed. */
export function boundCapabilities(kept: readonly number[]): void {
  for (let capability = 0; ; capability++) {
    if (kept.includes(capability)) continue;
    if (onThread(THIS_THREAD, 'prctl', PR_CAPBSET_DROP, capability) < 0) return; // EINVAL after the last capability
  }
}

/** struct __user_cap_header_struct, then twice struct __user_cap_data_struct: u32 each. Source: linux/capability.h. */
const Capset = { version: 0, pid: 4, effective: 8, permitted: 12, inheritable: 16, NEXT: 12, SIZE: 32 } as const;
const VERSION_3 = 0x20080522;
/** Never freed, because system calls get its address. */
const capset = new Uint8Array(Capset.SIZE);

/** Sets the capabilities of a thread to these, which it must already have. @returns 0 or -errno */
export function setCapabilities(thread: Thread, kept: readonly number[]): number {
  const view = new DataView(capset.fill(0).buffer);
  view.setUint32(Capset.version, VERSION_3, true); // pid 0 means the calling thread
  for (const capability of kept) {
    const at = (capability >> 5) * Capset.NEXT;
    const bit = 1 << (capability & 31);
    for (const set of [Capset.effective, Capset.permitted])
      view.setUint32(at + set, view.getUint32(at + set, true) | bit, true);
  }
  const address = native.addressOf(capset);
  return onThread(thread, 'capset', address, address + Capset.effective);
}

/** Prevents a thread's programs from gaining privileges, even by set-user-ID. @returns 0 or -errno */
export const refuseNewPrivileges = (thread: Thread): number => onThread(thread, 'prctl', PR_SET_NO_NEW_PRIVS, 1);
