/** The rights of a helper: those of a user without capabilities, and of them only what its task needs. */
import { type ByteString, byteStringFromText } from '../../sys/bytes.ts';
import { EPERM, ErrnoError } from '../../sys/errno.ts';
import { moduleDirectories, native } from '../../sys/native.ts';
import { confineProcess } from '../../sys/security/confine.ts';
import { landlockVersion, Ruleset, VERSION_OF_RENAMES } from '../../sys/security/landlock.ts';
import { hasAnyCapability } from '../../sys/security/privileges.ts';
import type { SystemCall } from '../../sys/security/system-calls.ts';
import { hashPackages } from '../../verity/hash.ts';
import type { Identity } from './orders.ts';

/**
 * Makes this process one of another user, before it looks at anything of theirs. As it was started by the broker's user, that user
 * can neither trace it nor read its memory. Throws as node:process does.
 */
export function become({ uid, gid, groups }: Identity): void {
  process.setgroups?.([...groups]);
  process.setgid?.(gid);
  process.setuid?.(uid);
}

/** Leaves this process what it needs to read the directory of a descriptor, if there is one, and no capability. Throws ErrnoError. */
export function confineToReading(directory?: number): void {
  const rules = landlockVersion() > 0 ? new Ruleset({ reading: true }) : undefined;
  const known = ['/proc', ...moduleDirectories(hashPackages)].map(byteStringFromText);
  const own = directory === undefined ? [] : [`/proc/self/fd/${directory}`];
  for (const path of [...known, ...own]) rules?.allowReading(path);
  confineProcess({ rules, capabilities: [], allowed: [] });
  if (rules) native.close(rules.fd);
  checkCapabilities();
}

/** Calls by which a repository is changed, and registries are spoken with. */
const PULLING_CALLS: readonly SystemCall[] = [
  ...(['mkdir', 'mkdirat', 'rmdir', 'unlink', 'unlinkat', 'rename', 'renameat', 'renameat2'] as const),
  ...(['link', 'linkat', 'symlink', 'symlinkat', 'ftruncate', 'fallocate', 'copy_file_range', 'fchmod'] as const),
  ...(['socket', 'bind', 'connect', 'sendto', 'sendmsg', 'sendmmsg'] as const),
];

/** Leaves this process what it needs to read files, to change those in a directory, and to use the network. Throws ErrnoError. */
export function confineToWriting(directory: ByteString): void {
  const rules = landlockVersion() >= VERSION_OF_RENAMES ? new Ruleset({ reading: false }) : undefined;
  rules?.allowEverything(directory);
  confineProcess({ rules, capabilities: [], allowed: PULLING_CALLS });
  if (rules) native.close(rules.fd);
  checkCapabilities();
}

/** Throws ErrnoError, EPERM, if this process has a capability. */
function checkCapabilities(): void {
  if (hasAnyCapability()) throw new ErrnoError(EPERM, 'a helper of the service cannot give up its capabilities');
}
