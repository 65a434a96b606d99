/** The rights of a helper: those of a user without capabilities, and of them only what its task needs. */
import { byteStringFromText } from '../../sys/bytes.ts';
import { EPERM, ErrnoError } from '../../sys/errno.ts';
import { moduleDirectories, native } from '../../sys/native.ts';
import { confineProcess } from '../../sys/security/confine.ts';
import { landlockVersion, Ruleset } from '../../sys/security/landlock.ts';
import { hasAnyCapability } from '../../sys/security/privileges.ts';
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

/** Throws ErrnoError, EPERM, if this process has a capability. */
function checkCapabilities(): void {
  if (hasAnyCapability()) throw new ErrnoError(EPERM, 'a helper of the service cannot give up its capabilities');
}
