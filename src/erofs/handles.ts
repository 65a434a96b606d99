/** File handles of an image's inodes, as the kernel gives them where it is mounted. Source: linux/fs/erofs/super.c. */
import type { Handle } from '../sys/handles.ts';

/** FILEID_INO64_GEN of linux/exportfs.h: the high and the low half of the nid, and a generation of 0, u32 each. */
const TYPE = 0x81;
const BYTES = 12;

export function handleOfNid(nid: number): Handle {
  const bytes = new Uint8Array(BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, Math.floor(nid / 2 ** 32), true);
  view.setUint32(4, nid >>> 0, true);
  return { type: TYPE, bytes };
}

/** The nid in a handle, which comes from outside; undefined for a handle of another filesystem. */
export function nidOfHandle({ type, bytes }: Handle): number | undefined {
  if (type !== TYPE || bytes.length !== BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return view.getUint32(0, true) * 2 ** 32 + view.getUint32(4, true);
}
