/** What a thread may do with files: Landlock. Source: linux/landlock.h; Documentation/userspace-api/landlock.rst. */
import { type ByteString, printable } from '../bytes.ts';
import { must } from '../errno.ts';
import { native } from '../native.ts';
import { onThread, type Thread } from '../threads.ts';

/** struct landlock_ruleset_attr, u64 each; the kernel takes as much of it as its version knows. */
const Attributes = { handled_access_fs: 0, handled_access_net: 8, scoped: 16, SIZE: 24 } as const;
/** struct landlock_path_beneath_attr, packed. */
const PathBeneath = { allowed_access: 0 /* u64 */, parent_fd: 8 /* i32 */, SIZE: 12 } as const;

const RULE_PATH_BENEATH = 1;
const ASK_VERSION = 1;
const ASK_ERRATA = 2;
/** Files that were opened by their handle count as beneath the root of the mount through which they were opened. */
const ERRATUM_DISCONNECTED = 1 << 2;

const EXECUTE = 1 << 0;
const READ_FILE = 1 << 2;
const READ_DIR = 1 << 3;
const READING = EXECUTE | READ_FILE | READ_DIR;
/** How many LANDLOCK_ACCESS_FS_* bits there are since a version: REFER 2, TRUNCATE 3, IOCTL_DEV 5. */
const FS_BITS = [0, 13, 14, 15, 15, 16] as const;
const SCOPES = 2; // ABSTRACT_UNIX_SOCKET, SIGNAL, since 6

const O_PATH = 0o10000000;
const AT_FDCWD = -100;

/** The version of the kernel's Landlock; 0: there is none, or it is turned off. */
export const landlockVersion = (): number => Math.max(0, native.landlockCreateRuleset(new Uint8Array(0), ASK_VERSION));

/** Whether a file that is opened by handle below a directory counts as beneath it, wherever it is. */
export const knowsHandles = (): boolean => {
  const errata = native.landlockCreateRuleset(new Uint8Array(0), ASK_ERRATA); // -EINVAL before there were any
  return errata > 0 && (errata & ERRATUM_DISCONNECTED) !== 0;
};

/** A ruleset; it holds for whom `restrict` names. */
export class Ruleset {
  /** To be closed by its owner when it holds for everybody it is meant for. */
  readonly fd: number;

  /**
   * Nothing of what the kernel can forbid with files is allowed: writing, making and removing them; nor abstract sockets and
   * signals to others. @param reading whether reading files is forbidden, too, until `allowReading`
   * Throws ErrnoError: ENOSYS, EOPNOTSUPP where there is no Landlock.
   */
  constructor({ reading }: { readonly reading: boolean }) {
    const version = landlockVersion();
    const bits = FS_BITS[Math.min(version, FS_BITS.length - 1)] as number;
    const attributes = new Uint8Array(version < 6 ? Attributes.handled_access_net : Attributes.SIZE);
    const view = new DataView(attributes.buffer);
    view.setUint32(Attributes.handled_access_fs, (2 ** bits - 1) & ~(reading ? 0 : READING), true);
    if (version >= 6) view.setUint32(Attributes.scoped, 2 ** SCOPES - 1, true);
    this.fd = must(native.landlockCreateRuleset(attributes, 0), 'landlock_create_ruleset');
  }

  /** Allows to read, and to execute, what is beneath a directory. Throws ErrnoError where it can not be opened. */
  allowReading(directory: ByteString): void {
    const parent = must(native.openat2(AT_FDCWD, directory, O_PATH, 0), printable(directory));
    const rule = new Uint8Array(PathBeneath.SIZE);
    const view = new DataView(rule.buffer);
    view.setUint32(PathBeneath.allowed_access, READING, true);
    view.setInt32(PathBeneath.parent_fd, parent, true);
    const result = native.landlockAddRule(this.fd, RULE_PATH_BENEATH, rule);
    native.close(parent);
    must(result, `landlock_add_rule ${printable(directory)}`);
  }

  /** Restricts a thread, and those that it starts. It needs no_new_privs or CAP_SYS_ADMIN. @returns 0 or -errno */
  restrict(thread: Thread): number {
    return onThread(thread, 'landlock_restrict_self', this.fd);
  }
}
