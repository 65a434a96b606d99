/** Whether a file of the configuration can be trusted by who can change it. */
import type { ByteString } from '../sys/bytes.ts';
import { ErrnoError, systemError } from '../sys/errno.ts';
import { changeableOnTheWay } from '../sys/security/changeable.ts';

/** The owner of what belongs to users that a user namespace has no number for. */
const OVERFLOW_UID = 65_534;

/**
 * Why users other than root and the caller can change what an absolute path leads to, with the place; undefined if they cannot. For
 * root, that is everybody else. In a user namespace, directories above may belong to a user of the host.
 */
export function whyOthersCanChange(path: ByteString): string | undefined {
  const owners = [0, process.geteuid?.() ?? 0];
  try {
    return changeableOnTheWay(path, owners, [OVERFLOW_UID]);
  } catch (error) {
    const failure = systemError(error);
    if (failure instanceof ErrnoError) return failure.message;
    throw error;
  }
}
