/** POSIX ACLs as values of xattrs. Source: kernel fs/posix_acl.c, posix_acl_create. */
import { isDirectory } from '../sys/stat.ts';

/** struct posix_acl_xattr_header, then entries. Source: linux/posix_acl_xattr.h. */
const HEADER_BYTES = 4;
const ENTRY_BYTES = 8;
/** struct posix_acl_xattr_entry. */
const AclEntry = { tag: 0 /* u16 */, perm: 2 /* u16 */, id: 4 /* u32 */ } as const;
const Tag = { USER_OBJ: 1, USER: 2, GROUP_OBJ: 4, GROUP: 8, MASK: 16, OTHER: 32 } as const;

/** What a new object gets. */
export interface Acls {
  /** Type and permission bits. */
  readonly mode: number;
  /** The value of its access ACL; undefined if the mode says all. */
  readonly access: Uint8Array | undefined;
  /** The value of a directory's default ACL. */
  readonly defaults: Uint8Array | undefined;
}

/**
 * @param defaults the default ACL of the directory; the umask counts only without one
 * @param mode as its maker wants it
 */
export function inheritedAcls(defaults: Uint8Array | undefined, mode: number, umask: number): Acls {
  if (defaults === undefined || (defaults.length - HEADER_BYTES) % ENTRY_BYTES !== 0)
    return { mode: mode & ~(umask & 0o777), access: undefined, defaults: undefined };
  const access = defaults.slice();
  const view = new DataView(access.buffer);
  const limit = (tag: number, bits: number): number | undefined => {
    for (let at = HEADER_BYTES; at < access.length; at += ENTRY_BYTES) {
      if (view.getUint16(at + AclEntry.tag, true) !== tag) continue;
      const allowed = view.getUint16(at + AclEntry.perm, true) & bits;
      view.setUint16(at + AclEntry.perm, allowed, true);
      return allowed;
    }
    return undefined;
  };
  const owner = limit(Tag.USER_OBJ, mode >> 6) ?? 0;
  const mask = limit(Tag.MASK, mode >> 3);
  const group = mask ?? limit(Tag.GROUP_OBJ, mode >> 3) ?? 0;
  const others = limit(Tag.OTHER, mode) ?? 0;
  const isExtended = access.length > HEADER_BYTES + 3 * ENTRY_BYTES;
  return {
    mode: (mode & ~0o777) | ((owner & 7) << 6) | ((group & 7) << 3) | (others & 7),
    access: isExtended ? access : undefined,
    defaults: isDirectory(mode) ? defaults : undefined,
  };
}

/** Changes the ids of an ACL's entries for users and groups in place. @returns `value` */
export function mapAclIds(
  value: Uint8Array,
  userOf: (uid: number) => number,
  groupOf: (gid: number) => number,
): Uint8Array {
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  for (let at = HEADER_BYTES; at + ENTRY_BYTES <= value.length; at += ENTRY_BYTES) {
    const tag = view.getUint16(at + AclEntry.tag, true);
    if (tag !== Tag.USER && tag !== Tag.GROUP) continue;
    const id = view.getUint32(at + AclEntry.id, true);
    view.setUint32(at + AclEntry.id, tag === Tag.USER ? userOf(id) : groupOf(id), true);
  }
  return value;
}
