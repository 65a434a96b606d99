/** The xattrs that overlayfs gives a meaning to, and how a mount hides, shows and escapes them. */

import type { ByteString } from '../sys/bytes.ts';
import { EINVAL, ENODATA, EOPNOTSUPP } from '../sys/errno.ts';

const XATTR_NAME_MAX = 255;
/** Those that every filesystem of the kernel has, as far as it has any; the two names of POSIX ACLs besides. */
const NAMESPACES: readonly ByteString[] = ['user.', 'trusted.', 'security.'];
const ACLS: readonly ByteString[] = ['system.posix_acl_access', 'system.posix_acl_default'];

/**
 * What a missing xattr of this name is: -EOPNOTSUPP where no filesystem may know such names.
 * Source: kernel fs/xattr.c, xattr_resolve_name.
 */
export function missingXattr(name: ByteString): number {
  const isKnown = ACLS.includes(name) || NAMESPACES.some(namespace => name.startsWith(namespace));
  return isKnown ? -ENODATA : -EOPNOTSUPP;
}

/**
 * The xattr names of one stack: `trusted.overlay.*`, or `user.overlay.*` with the option userxattr.
 * Source: kernel fs/overlayfs/xattrs.c and Documentation/filesystems/overlayfs.rst, "Nesting overlayfs mounts".
 */
export class OverlayXattrs {
  /** Whether they are user xattrs, which only who may read a file can read. */
  readonly userxattr: boolean;
  readonly prefix: ByteString;
  readonly opaque: ByteString;
  readonly redirect: ByteString;
  readonly metacopy: ByteString;
  readonly origin: ByteString;
  readonly whiteout: ByteString;
  /** The prefix of names that an overlay on top of this one gives a meaning to. */
  readonly escapePrefix: ByteString;

  constructor(userxattr: boolean) {
    this.userxattr = userxattr;
    this.prefix = userxattr ? 'user.overlay.' : 'trusted.overlay.';
    this.opaque = `${this.prefix}opaque`;
    this.redirect = `${this.prefix}redirect`;
    this.metacopy = `${this.prefix}metacopy`;
    this.origin = `${this.prefix}origin`;
    this.whiteout = `${this.prefix}whiteout`;
    this.escapePrefix = `${this.prefix}overlay.`;
  }

  /** The name under which a stored xattr is listed: one level of escape removed; undefined where it is hidden. */
  shown(stored: ByteString): ByteString | undefined {
    if (!stored.startsWith(this.prefix)) return stored;
    return stored.startsWith(this.escapePrefix) ? this.prefix + stored.slice(this.escapePrefix.length) : undefined;
  }

  /** The name under which a requested xattr is stored, or -EINVAL, -EOPNOTSUPP for one that can not be. */
  stored(requested: ByteString): ByteString | number {
    if (NAMESPACES.includes(requested)) return -EINVAL;
    if (!requested.startsWith(this.prefix)) return requested;
    if (requested.length === this.prefix.length) return -EINVAL;
    const escaped = this.escapePrefix + requested.slice(this.prefix.length);
    return escaped.length > XATTR_NAME_MAX ? -EOPNOTSUPP : escaped;
  }
}
