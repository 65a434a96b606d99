/** The xattrs that have a meaning in overlayfs, and how a mount hides, shows and escapes them. */

import type { ByteString } from '../sys/bytes.ts';
import { EINVAL, ENODATA, EOPNOTSUPP } from '../sys/errno.ts';

const XATTR_NAME_MAX = 255;
/** The xattr namespaces that any kernel filesystem may support, and the two names of POSIX ACLs. */
const NAMESPACES: readonly ByteString[] = ['user.', 'trusted.', 'security.'];
const ACLS: readonly ByteString[] = ['system.posix_acl_access', 'system.posix_acl_default'];

/** Whether an xattr is a POSIX ACL. */
export const isAcl = (name: ByteString): boolean => name.startsWith('system.posix_acl_');

/**
 * The errno for a missing xattr of this name: -ENODATA, or -EOPNOTSUPP if no filesystem knows such names.
 * Source: kernel fs/xattr.c, xattr_resolve_name.
 */
export function missingXattr(name: ByteString): number {
  const isKnown = ACLS.includes(name) || NAMESPACES.some(namespace => name.startsWith(namespace));
  return isKnown ? -ENODATA : -EOPNOTSUPP;
}

/**
 * The xattr names of one stack: `trusted.overlay.*`, or `user.overlay.*` with the option userxattr.
 * Source: kernel fs/overlayfs/xattrs.c and Documentation/filesystems/overlayfs.rst, "Nesting overlayfs mounts".
 * @example
 * assert.equal(new OverlayXattrs(false).redirect, 'trusted.overlay.redirect');
 * assert.equal(new OverlayXattrs(true).redirect, 'user.overlay.redirect');
 */
export class OverlayXattrs {
  /** Whether they are user xattrs, which can be read only by a process that may read the file. */
  readonly userxattr: boolean;
  readonly prefix: ByteString;
  readonly opaque: ByteString;
  readonly redirect: ByteString;
  readonly metacopy: ByteString;
  readonly origin: ByteString;
  readonly whiteout: ByteString;
  /** Marks a directory of the upper layer that holds copies of lower objects; lookup ignores it. */
  readonly impure: ByteString;
  /** The flags of chattr(1) that forbid changes of an object of the upper layer. */
  readonly protattr: ByteString;
  /** On a file in the index: how many links it has in all layers together. */
  readonly nlink: ByteString;
  /** On the index: the file handle of the upper directory. */
  readonly upper: ByteString;
  /** The prefix of the names that have a meaning to an overlay on top of this one. */
  readonly escapePrefix: ByteString;

  constructor(userxattr: boolean) {
    this.userxattr = userxattr;
    this.prefix = userxattr ? 'user.overlay.' : 'trusted.overlay.';
    this.opaque = `${this.prefix}opaque`;
    this.redirect = `${this.prefix}redirect`;
    this.metacopy = `${this.prefix}metacopy`;
    this.origin = `${this.prefix}origin`;
    this.whiteout = `${this.prefix}whiteout`;
    this.impure = `${this.prefix}impure`;
    this.protattr = `${this.prefix}protattr`;
    this.nlink = `${this.prefix}nlink`;
    this.upper = `${this.prefix}upper`;
    this.escapePrefix = `${this.prefix}overlay.`;
  }

  /** Whether a stored xattr belongs to the overlay itself, so that no copy of the object has it. Source: kernel ovl_is_private_xattr. */
  isPrivate(stored: ByteString): boolean {
    return stored.startsWith(this.prefix) && !stored.startsWith(this.escapePrefix);
  }

  /** The name under which a stored xattr is listed, with one level of escape removed; undefined if it is hidden. */
  shown(stored: ByteString): ByteString | undefined {
    if (!stored.startsWith(this.prefix)) return stored;
    return stored.startsWith(this.escapePrefix) ? this.prefix + stored.slice(this.escapePrefix.length) : undefined;
  }

  /** The name under which a requested xattr is stored; -EINVAL or -EOPNOTSUPP for a name that cannot be stored. */
  stored(requested: ByteString): ByteString | number {
    if (NAMESPACES.includes(requested)) return -EINVAL;
    if (!requested.startsWith(this.prefix)) return requested;
    if (requested.length === this.prefix.length) return -EINVAL;
    const escaped = this.escapePrefix + requested.slice(this.prefix.length);
    return escaped.length > XATTR_NAME_MAX ? -EOPNOTSUPP : escaped;
  }
}
