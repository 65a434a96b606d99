/** Every option name that is not one of overlayfs (those are in overlay/options.ts), and what becomes of it. */
import type { DriverOptions } from '../driver/options.ts';
import { type MountFlag, mountFlags } from '../fuse/mount.ts';
import { type StackOptions, splitAt } from '../overlay/options.ts';
import { type Name, printable } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';

/** What the options of a mount have chosen so far. */
export interface Choices {
  readonly isRoot: boolean;
  readonly driver: { -readonly [K in keyof DriverOptions]: DriverOptions[K] };
  readonly flags: Set<MountFlag>;
  /** Data-only layers after those of the stack. */
  objects: Name[];
  verity?: StackOptions['verity'];
  source?: Name;
  fsname?: Name;
  subtype: Name;
  allowOther: boolean;
  maxReadBytes?: number;
}

/** Nobody but root may bring set-user-ID programs and devices in. */
export function defaultChoices(isRoot: boolean): Choices {
  return {
    isRoot,
    driver: { passthrough: 'auto', acl: true, debug: false, transport: 'dev' },
    flags: new Set(isRoot ? [] : ['nosuid', 'nodev']),
    objects: [],
    subtype: 'lowerdata',
    allowOther: false,
  };
}

/** Takes an option; throws ErrnoError EINVAL that names it. */
type Row = (choices: Choices, value: Name | undefined, key: Name) => 'taken' | 'without effect';

/** For mount(8) and its relatives, who have read it already; or what holds anyway. */
const silent: Row = () => 'taken';
/** Known, harmless to leave out, and worth a word. */
const idle: Row = () => 'without effect';
/** Whoever asks for this would be misled by a mount without it. */
const refused = (why: string): Row => {
  return (_, __, key) => {
    throw new ErrnoError(EINVAL, `option ${key}: ${why}`);
  };
};

function flag(take: (choices: Choices) => void): Row {
  return (choices, value, key) => {
    if (value !== undefined) throw new ErrnoError(EINVAL, `option ${key}: takes no value`);
    take(choices);
    return 'taken';
  };
}

function valued(take: (choices: Choices, value: Name, key: Name) => void): Row {
  return (choices, value, key) => {
    if (!value) throw new ErrnoError(EINVAL, `option ${key}: needs a value`);
    take(choices, value, key);
    return 'taken';
  };
}

const chosen = (part: Partial<Choices>): Row => flag(choices => void Object.assign(choices, part));
const driven = (part: Partial<DriverOptions>): Row => flag(({ driver }) => void Object.assign(driver, part));

function text(field: 'source' | 'fsname' | 'subtype'): Row {
  return valued((choices, value) => {
    choices[field] = unescaped(value);
  });
}

function seconds(...fields: ('entryTimeout' | 'attrTimeout' | 'negativeTimeout')[]): Row {
  return valued(({ driver }, value, key) => {
    for (const field of fields) driver[field] = number(value, key);
  });
}

function choice<K extends 'passthrough' | 'transport' | 'verify'>(field: K, values: readonly DriverOptions[K][]): Row {
  return valued(({ driver }, value, key) => {
    const found = values.find(known => known === value);
    if (!found) throw new ErrnoError(EINVAL, `option ${key}=${printable(value)}: not one of ${values.join(', ')}`);
    Object.assign(driver, { [field]: found });
  });
}

const on = (name: MountFlag): Row => flag(({ flags }) => void flags.add(name));
/** Undoes a flag, but never one that is forced on those who are not root. */
const off = (name: MountFlag): Row =>
  flag(({ flags, isRoot }) => {
    if (isRoot || (name !== 'nosuid' && name !== 'nodev')) flags.delete(name);
  });

function number(value: Name, key: Name): number {
  if (!/^\d{1,9}(\.\d*)?$/.test(value)) throw new ErrnoError(EINVAL, `option ${key}=${printable(value)}: not a number`);
  return Number(value);
}

const takeMaxRead = valued((choices, value, key) => {
  choices.maxReadBytes = Math.trunc(number(value, key));
});

const takeBasedir = valued((choices, value) => {
  choices.objects = pathList(value);
  if (choices.objects.includes('')) throw new ErrnoError(EINVAL, `option basedir=${printable(value)}: an empty path`);
});

/** mount.composefs has `verity` without a value, overlayfs has `verity=`. */
const takeVerity: Row = (choices, value = 'require') => {
  if (value !== 'off' && value !== 'on' && value !== 'require') {
    throw new ErrnoError(EINVAL, `option verity=${printable(value)}: not one of off, on, require`);
  }
  choices.verity = value;
  return 'taken';
};

/** root is let in anyway, so for root this changes nothing. */
const takeAllowRoot = flag(({ isRoot }) => {
  if (!isRoot) throw new ErrnoError(EINVAL, 'option allow_root: not supported yet; allow_other lets root in, too');
});

/** Paths with colons between them, which a backslash escapes. */
export const pathList = (value: Name): Name[] => splitAt(value, ':').map(unescaped);

/** Removes the escapes of option values other than layers: a backslash before a byte, or before three octal digits. */
function unescaped(value: Name): Name {
  return value.replace(/\\([0-3][0-7]{2}|.?)/gs, (_, after: string) =>
    after.length === 3 ? String.fromCharCode(Number.parseInt(after, 8)) : after,
  );
}

const NO_IDS = 'owners can not be mapped yet';
const NO_REMOTE = 'remote layers are not supported yet';
const NO_LABELS = 'a security context can not be chosen yet';

export const rows: ReadonlyMap<Name, Row> = new Map<Name, Row>([
  // what the mount is made of
  ['basedir', takeBasedir],
  ['source', text('source')],
  ['verity', takeVerity],
  ['verify', choice('verify', ['open', 'read'])],
  ['tryverity', chosen({ verity: 'on' })],
  ['noacl', driven({ acl: false })],
  ['acl', driven({ acl: true })],
  ['debug', driven({ debug: true })],
  ['passthrough', choice('passthrough', ['auto', 'on', 'off'])],
  ['transport', choice('transport', ['dev', 'fuse-native'])],

  // FUSE
  ['allow_other', chosen({ allowOther: true })],
  ['allow_root', takeAllowRoot],
  ['fsname', text('fsname')],
  ['subtype', text('subtype')],
  ['max_read', takeMaxRead],
  ['entry_timeout', seconds('entryTimeout')],
  ['attr_timeout', seconds('attrTimeout')],
  ['negative_timeout', seconds('negativeTimeout')],
  ['timeout', seconds('entryTimeout', 'attrTimeout')],
  ['fd', refused('a descriptor that is mounted already can not be served yet')],
  ['auto_unmount', idle], // a mount never outlives its daemon
  ...names('kernel_cache auto_cache noauto_cache direct_io use_ino readdir_ino nonempty big_writes', idle),
  ...names('async_read sync_read atomic_o_trunc clone_fd max_idle_threads max_threads max_write', idle),
  ...names('max_readahead max_background congestion_threshold splice_read splice_write splice_move', idle),
  ...names('no_splice_read no_splice_write no_splice_move hard_remove intr remember ac_attr_timeout', idle),

  // fuse-overlayfs
  ...names('threaded fast_ino fast_ino_check writeback static_nlink fsync', idle),
  ...names('idmap uidmapping gidmapping squash_to_root squash_to_uid squash_to_gid uid gid umask', refused(NO_IDS)),
  ...names('xattr_permissions noxattrs', refused('extended attributes are shown as they are')),
  ['ino32_t', refused('inode numbers have 64 bits')],
  ['plugins', refused(NO_REMOTE)],

  // mount.erofs, for layers that are elsewhere
  ...names('oci.blob oci.layer oci.platform oci.username oci.password oci.insecure offline', refused(NO_REMOTE)),
  ...names('s3.endpoint s3.region s3.passwd_file s3.urlstyle cache cache_max', refused(NO_REMOTE)),
  ...names('context fscontext defcontext rootcontext', refused(NO_LABELS)),

  // mount(8)
  ...names('defaults auto noauto user nouser users nousers owner noowner group nogroup nofail fail', silent),
  ...names('_netdev loop uhelper comment helper user_id group_id rootmode setuid drop_privileges', silent),
  ...names('rw ro async nolazytime norelatime nostrictatime iversion noiversion mand nomand silent loud', silent),
  ...(Object.keys(mountFlags) as MountFlag[]).filter(name => name !== 'ro').map(name => [name, on(name)] as const),
  ['suid', off('nosuid')],
  ['dev', off('nodev')],
  ['exec', off('noexec')],
  ['atime', off('noatime')],
  ['diratime', off('nodiratime')],
]);

function names(list: string, row: Row): [Name, Row][] {
  return list.split(' ').map(name => [name, row]);
}
