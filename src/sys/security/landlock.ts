/** Landlock: limits which files a thread may access. Source: linux/landlock.h; Documentation/userspace-api/landlock.rst. */
import { type ByteString, printable } from '../bytes.ts';
import { must } from '../errno.ts';
import { native } from '../native.ts';
import { onThread, type Thread } from '../processes/threads.ts';

/** struct landlock_ruleset_attr, u64 each; older kernels take only its first fields. */
const Attributes = { handled_access_fs: 0, handled_access_net: 8, scoped: 16, SIZE: 24 } as const;
/** struct landlock_path_beneath_attr, packed. */
const PathBeneath = { allowed_access: 0 /* u64 */, parent_fd: 8 /* i32 */, SIZE: 12 } as const;

const RULE_PATH_BENEATH = 1;
const ASK_VERSION = 1;
const ASK_ERRATA = 2;
/** With this fix, a file opened by handle counts as beneath the root of the mount through which it was opened. */
const ERRATUM_DISCONNECTED = 1 << 2;

const EXECUTE = 1 << 0;
const READ_FILE = 1 << 2;
const READ_DIR = 1 << 3;
const READING = EXECUTE | READ_FILE | READ_DIR;
/** The number of LANDLOCK_ACCESS_FS_* bits by version. REFER is new in 2, TRUNCATE in 3, IOCTL_DEV in 5. */
const FS_BITS = [0, 13, 14, 15, 15, 16] as const;
const SCOPES = 2; // ABSTRACT_UNIX_SOCKET and SIGNAL, since version 6

/** Since this version, a file can be renamed from one directory to another. */
export const VERSION_OF_RENAMES = 2;

const O_PATH = 0o10000000;
const AT_FDCWD = -100;

/** The version of the kernel's Landlock; 0 if there is none or it is disabled. */
export const landlockVersion = (): number => Math.max(0, native.landlockCreateRuleset(new Uint8Array(0), ASK_VERSION));

/** Whether a file opened by handle through a directory's mount counts as beneath that directory. */
export const knowsHandles = (): boolean => {
  const errata = native.landlockCreateRuleset(new Uint8Array(0), ASK_ERRATA); // -EINVAL if the kernel reports no errata
  return errata > 0 && (errata & ERRATUM_DISCONNECTED) !== 0;
};

/** A ruleset; it applies to the threads given to `restrict`. */
export class Ruleset {
  /** The owner must close it when it applies to all intended threads. */
  readonly fd: number;
  /** The LANDLOCK_ACCESS_FS_* bits that are forbidden unless they are allowed. */
  private readonly handled: number;

  /**
   * Forbids everything with files that the kernel can forbid, such as writing, creating and removing them. Abstract sockets and
   * signals to other processes are forbidden, too.
   * @param reading whether reading files is also forbidden, until `allowReading`
   * Throws ErrnoError: ENOSYS or EOPNOTSUPP without Landlock.
   */
  constructor({ reading }: { readonly reading: boolean }) {
    const version = landlockVersion();
    const bits = FS_BITS[Math.min(version, FS_BITS.length - 1)] as number;
    const attributes = new Uint8Array(version < 6 ? Attributes.handled_access_net : Attributes.SIZE);
    const view = new DataView(attributes.buffer);
    this.handled = (2 ** bits - 1) & ~(reading ? 0 : READING);
    view.setUint32(Attributes.handled_access_fs, this.handled, true);
    if (version >= 6) view.setUint32(Attributes.scoped, 2 ** SCOPES - 1, true);
    this.fd = must(native.landlockCreateRuleset(attributes, 0), 'landlock_create_ruleset');
  }

  /** Allows reading and executing files beneath a directory. Throws ErrnoError if it cannot be opened. */
  allowReading(directory: ByteString): void {
    this.allow(directory, READING);
  }

  /** Allows everything beneath a directory. Files may be renamed from one such directory to another since version 2. */
  allowEverything(directory: ByteString): void {
    this.allow(directory, this.handled);
  }

  private allow(directory: ByteString, access: number): void {
    const parent = must(native.openat2(AT_FDCWD, directory, O_PATH, 0), printable(directory));
    const rule = new Uint8Array(PathBeneath.SIZE);
    const view = new DataView(rule.buffer);
    view.setUint32(PathBeneath.allowed_access, access, true);
    view.setInt32(PathBeneath.parent_fd, parent, true);
    const result = native.landlockAddRule(this.fd, RULE_PATH_BENEATH, rule);
    native.close(parent);
    must(result, `landlock_add_rule ${printable(directory)}`);
  }

  /** Restricts a thread, and those that it starts. Needs no_new_privs or CAP_SYS_ADMIN. @returns 0 or -errno */
  restrict(thread: Thread): number {
    return onThread(thread, 'landlock_restrict_self', this.fd);
  }
}
