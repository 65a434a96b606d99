/** All options except those of overlayfs, which are in overlay/options/table.ts, and the effect of each. */
import { DRIVER_DEFAULTS, type DriverOptions } from '../driver/options.ts';
import { type MountFlag, mountFlags } from '../fuse/mount.ts';
import type { StackOptions } from '../overlay/options/rules.ts';
import { splitAt } from '../overlay/options/split.ts';
import { common, type OptionWords, stackOptionWords } from '../overlay/options/table.ts';
import { type ByteString, printable } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';
import { parseId, parseRanges, withView } from './owner-options.ts';

/** The choices that the options of a mount have made so far. */
export interface Choices {
  readonly isRoot: boolean;
  readonly driver: { -readonly [K in keyof DriverOptions]: DriverOptions[K] };
  readonly flags: Set<MountFlag>;
  /** Flags that options have undone. Layers do not impose them either. */
  readonly undone: Set<MountFlag>;
  /** Data-only layers to append to those of the stack. */
  objects: ByteString[];
  signature?: ByteString;
  keys?: ByteString[];
  policy?: ByteString;
  verity?: StackOptions['verity'];
  source?: ByteString;
  fsname?: ByteString;
  subtype: ByteString;
  allowOther: boolean;
  maxReadBytes?: number;
}

/** The choices before any option. Only root may mount with set-user-ID programs and devices. */
export function defaultChoices(isRoot: boolean): Choices {
  return {
    isRoot,
    driver: { ...DRIVER_DEFAULTS },
    flags: new Set(isRoot ? [] : ['nosuid', 'nodev']),
    undone: new Set(),
    objects: [],
    subtype: 'lowerdata',
    allowOther: false,
  };
}

/** Applies an option; throws ErrnoError EINVAL that names it. */
type Take = (choices: Choices, value: ByteString | undefined, key: ByteString) => void;

/** An option, with its description and its effect. */
interface MountOption extends OptionWords {
  readonly take: Take;
  /** Whether the option is reported as having no effect: it is known and harmless to leave out, but the user should know. */
  readonly idle?: true;
  /** Whether mount(8) has the option for every filesystem. */
  readonly ofEveryMount?: true;
}

/** An option without effect that is not reported: mount(8) and its helpers have applied it, or it holds anyway. */
const silent = (what: string): MountOption => ({ what, effect: 'without effect', take: () => {} });
const idle = (what: string): MountOption => ({ ...silent(what), idle: true });
/** An option that is refused, because a mount without its effect would mislead the user. */
const refused = (why: string): MountOption => ({
  what: `${why[0]?.toUpperCase()}${why.slice(1)}.`,
  effect: 'refused',
  take: (_, __, key) => {
    throw new ErrnoError(EINVAL, `option ${key}: ${why}`);
  },
});

function flag(what: string, take: (choices: Choices) => void): MountOption {
  const checked: Take = (choices, value, key) => {
    if (value !== undefined) throw new ErrnoError(EINVAL, `option ${key}: takes no value`);
    take(choices);
  };
  return { what, effect: 'taken', take: checked };
}

function valued(
  values: string | readonly string[],
  what: string,
  take: (choices: Choices, value: ByteString, key: ByteString) => void,
): MountOption {
  const checked: Take = (choices, value, key) => {
    if (!value) throw new ErrnoError(EINVAL, `option ${key}: needs a value`);
    take(choices, value, key);
  };
  return { values, what, effect: 'taken', take: checked };
}

/** An option that is handled before there is a plan. Its value may be left out. */
const optional = (values: string, what: string): MountOption => ({ values, what, effect: 'taken', take: () => {} });

const chosen = (part: Partial<Choices>, what: string): MountOption =>
  flag(what, choices => void Object.assign(choices, part));
const driven = (part: Partial<DriverOptions>, what: string): MountOption =>
  flag(what, ({ driver }) => void Object.assign(driver, part));

function text(field: 'source' | 'fsname' | 'subtype', word: string, what: string): MountOption {
  return valued(word, what, (choices, value) => {
    choices[field] = unescaped(value);
  });
}

function seconds(what: string, ...fields: ('entryTimeout' | 'attrTimeout' | 'negativeTimeout')[]): MountOption {
  return valued('SECONDS', what, ({ driver }, value, key) => {
    for (const field of fields) driver[field] = number(value, key);
  });
}

function choice<
  K extends
    | 'confine'
    | 'latency'
    | 'nfsExport'
    | 'opens'
    | 'passthrough'
    | 'restart'
    | 'statfs'
    | 'transport'
    | 'verify',
>(field: K, values: readonly (DriverOptions[K] & string)[], what: string): MountOption {
  return valued(values, what, ({ driver }, value, key) => {
    const found = values.find(known => known === value);
    if (!found) throw new ErrnoError(EINVAL, `option ${key}=${printable(value)}: not one of ${values.join(', ')}`);
    Object.assign(driver, { [field]: found });
  });
}

const ofEveryMount = (option: MountOption): MountOption => ({ ...option, ofEveryMount: true });
const on = (name: MountFlag): MountOption =>
  ofEveryMount(
    flag('as in mount(8)', ({ flags, undone }) => {
      flags.add(name);
      undone.delete(name);
    }),
  );
/** For each flag, the layers that impose it without an option; part of the help text. */
const FROM_LAYERS: { readonly [K in MountFlag]?: string } = {
  nodev:
    ', which holds where `digest=` does not name every image of the stack, and where a directory layer is mounted so',
  nosuid: ', which holds where a directory layer is mounted so',
  noexec: ', which holds where a directory layer is mounted so',
};
/** An option that undoes a flag. Without root, nosuid and nodev cannot be undone. */
const off = (name: MountFlag): MountOption =>
  ofEveryMount(
    flag(`undoes \`${name}\`${FROM_LAYERS[name] ?? ''}`, ({ flags, undone, isRoot }) => {
      if (!isRoot && (name === 'nosuid' || name === 'nodev')) return;
      flags.delete(name);
      undone.add(name);
    }),
  );

function number(value: ByteString, key: ByteString): number {
  if (!/^\d{1,9}(\.\d*)?$/.test(value)) throw new ErrnoError(EINVAL, `option ${key}=${printable(value)}: not a number`);
  return Number(value);
}

const SIGNATURE =
  'a detached signature of the digest of the (top) image, by a key that counts: the mount fails without one; data is then checked as ' +
  'with `verity=require`, unless `verity=` says otherwise; `auto`, with `store`: one of the seals that the repository has of the image';
const KEYS =
  'directories with the keys that count for `signature`, in place of /etc/lowerdata/keys.d and /usr/lib/lowerdata/keys.d';
const POLICY =
  'the policy that says which images are allowed, in place of /etc/lowerdata/policy.json and /usr/lib/lowerdata/policy.json';

/** The largest number of keys that a JavaScript Map holds. */
const COUNT_MAX = 2 ** 24;

function count(value: ByteString, key: ByteString): number {
  if (/^\d{1,8}$/.test(value) && Number(value) <= COUNT_MAX) return Number(value);
  throw new ErrnoError(EINVAL, `option ${key}=${printable(value)}: not a number from 0 to ${COUNT_MAX}`);
}

const takeDentries = ({ driver }: Choices, value: ByteString, key: ByteString): void => {
  driver.dentries = count(value, key);
};

const mapped = (of: 'uids' | 'gids', what: string): MountOption =>
  valued('STORED:SHOWN:COUNT[:…]', what, ({ driver }, value, key) => {
    driver.owners = withView(driver.owners, of, { ranges: parseRanges(value, key) });
  });

const squashed = (of: 'uids' | 'gids', what: string): MountOption =>
  valued('N', what, ({ driver }, value, key) => {
    driver.owners = withView(driver.owners, of, { squashed: parseId(value, key) });
  });

function squashToRoot({ driver }: Choices): void {
  for (const of of ['uids', 'gids'] as const)
    driver.owners = withView(driver.owners, of, { squashed: driver.owners?.[of].squashed ?? 0 });
}

const takeMaxRead = valued('BYTES', 'how much one READ of the kernel asks for at most', (choices, value, key) => {
  choices.maxReadBytes = Math.trunc(number(value, key));
});

const takeSignature = valued('FILE|auto', SIGNATURE, (choices, value) => {
  choices.signature = unescaped(value);
});

const takeKeys = valued('DIR[:DIR]', KEYS, (choices, value) => {
  choices.keys = pathList(value);
  if (choices.keys.includes('')) throw new ErrnoError(EINVAL, `option keys=${printable(value)}: an empty path`);
});

const takePolicy = valued('FILE', POLICY, (choices, value) => {
  choices.policy = unescaped(value);
});

const takeBasedir = valued('C[:D]', 'data-only layers, as in mount.composefs', (choices, value) => {
  choices.objects = pathList(value);
  if (choices.objects.includes('')) throw new ErrnoError(EINVAL, `option basedir=${printable(value)}: an empty path`);
});

/** mount.composefs has `verity` without a value, overlayfs has `verity=`. */
const takeVerity: Take = (choices, value = 'require') => {
  if (value !== 'off' && value !== 'on' && value !== 'require') {
    throw new ErrnoError(EINVAL, `option verity=${printable(value)}: not one of off, on, require`);
  }
  choices.verity = value;
};

/** Root is let in anyway, so for root this option changes nothing. */
const takeAllowRoot = flag('let root in; only root may give it, and root is let in anyway', ({ isRoot }) => {
  if (!isRoot) throw new ErrnoError(EINVAL, 'option allow_root: not supported yet; allow_other lets root in, too');
});

/** Splits paths at colons; a backslash escapes a colon. */
export const pathList = (value: ByteString): ByteString[] => splitAt(value, ':').map(unescaped);

/** Removes the escapes of option values other than layers: a backslash before a byte, or before three octal digits. */
export function unescaped(value: ByteString): ByteString {
  return value.replace(/\\([0-3][0-7]{2}|.?)/gs, (_, after: string) =>
    after.length === 3 ? String.fromCharCode(Number.parseInt(after, 8)) : after,
  );
}

const STORE =
  'a repository, as `lowerdata pull --store` makes it; the source is then the name or the digest of an image there, which is mounted ' +
  'with the objects there, and must have the digest that the repository has for it'; // storedImage looks there before
const SERVICE =
  'the source is the name or the digest of an image in the store of `lowerdata serve`, which mounts it where this user may not, with ' +
  'the owners of the user namespace, or serves what fusermount3 mounts; without `=SOCKET`: that at /run/lowerdata/io.lowerdata.Mount';
const TRYVERITY =
  'the same as `verity=require`: mount.composefs asks for that wherever the kernel can check, and this process always can';
const VERIFY =
  'when data that has a digest is checked: at open alone, or at every read, too; default: `read` where this process serves ' +
  'reads, `open` with passthrough';
const OPENS =
  '`none`: the kernel opens files without asking; their data is found and checked when it is first read, and read through ' +
  'this process';
const NFS_EXPORT =
  'whether file handles lead to their objects at any time, and after a new mount of the image, as an NFS server needs it (with ' +
  '`fsid=` in exports(5)); of an image alone; for other stacks and with `transport=fuse-native`, `on` has no effect but to mean ' +
  '`index=on` with `upperdir`';
const STATFS =
  'whose numbers df(1) shows: those of the top layer, as in the kernel, where an image is always full, or `data`: those of the ' +
  'first data-only layer';
const LATENCY =
  '`low`: no CPU sleeps while requests follow each other closely, which takes power, and write access to ' +
  '/dev/cpu_dma_latency; where waking takes long, answers come two to three times as fast';
const TRANSPORT =
  'how requests come: read from /dev/fuse, or through io_uring (Linux 6.14 with fuse.enable_uring=1); `fuse-native`: the ' +
  'package of that name, for comparison';
const ATTR_TIMEOUT =
  'seconds that the kernel may keep attributes; those of directory layers are as old again when it asks; default: 30 with ' +
  'a directory layer, forever with images alone';
const DENTRY_CACHE =
  'names that this process remembers the lookup of, at 600 bytes each; 0: none; default: 65536; one image alone needs none';
const CONFINE =
  'whether the process of the mount gives up all that serving does not need, as far as the kernel can do that';
const RESTART =
  '`on`: another process goes on with the mount if the first one dies; users wait for a moment, and open files stay open; for one ' +
  'image above data-only layers, in the background, from Linux 6.9 on';
const NOACL =
  'POSIX access control lists do not count; in mounts by fusermount3 with a directory layer it spares users who do not own the ' +
  'root a message for each path: the kernel asks for the list of the root each time';
const UIDMAPPING =
  'owners as they are shown: COUNT uids from STORED on, in the layers, are shown as those from SHOWN on, and stored so when a file ' +
  'is made or changes its owner; any other is the overflow id, 65534; the order of the numbers is that of fuse-overlayfs';
const SQUASH_TO_UID = 'the uid that all files show; a change of owner that is not allowed here is then no error';
const IDMAP =
  'a user namespace, such as `/proc/PID/ns/user`, by whose mapping the mount shows owners: its root is the owner of what root owns ' +
  'in the layers, as in mount.composefs; without `upperdir`, for root, and from Linux 6.12 on';
const NO_IDS = 'owners are mapped by idmap, uidmapping and gidmapping alone';
const NO_REMOTE = 'remote layers are not supported yet';
const NO_LABELS = 'a security context cannot be chosen yet';
const FUSE = 'An option of FUSE that changes nothing here.';
const FUSE_OVERLAYFS = 'An option of fuse-overlayfs that changes nothing here.';
const OF_MOUNT = ofEveryMount(silent('For mount(8), or true of every mount anyway.'));

export const mountOptions: ReadonlyMap<ByteString, MountOption> = new Map<ByteString, MountOption>([
  // layers and how they are served
  ['basedir', common('data-only layers: the objects of an image', takeBasedir)],
  [
    'store',
    common(
      'a repository, whose image SOURCE names',
      valued('DIR', STORE, () => {}),
    ),
  ],
  ['service', optional('SOCKET', SERVICE)],
  ['signature', takeSignature],
  ['keys', takeKeys],
  ['policy', takePolicy],
  ['source', text('source', 'A:B::C', 'in place of the first argument, as in composefs-fuse')],
  ['verity', { ...(stackOptionWords.get('verity') as OptionWords), take: takeVerity }],
  ['verify', choice('verify', ['open', 'read'], VERIFY)],
  ['tryverity', chosen({ verity: 'require' }, TRYVERITY)],
  ['noacl', driven({ acl: false }, NOACL)],
  ['acl', driven({ acl: true }, 'POSIX access control lists count: the default')],
  ['debug', driven({ debug: true }, 'stay in the foreground, and print one line for each request and reply')],
  [
    'passthrough',
    common(
      'whether the kernel reads data itself',
      choice(
        'passthrough',
        ['auto', 'on', 'off'],
        "whether the kernel reads data itself, from the object's page cache",
      ),
    ),
  ],
  ['opens', choice('opens', ['each', 'none'], OPENS)],
  ['statfs', choice('statfs', ['top', 'data'], STATFS)],
  ['nfs_export', choice('nfsExport', ['on', 'off'], NFS_EXPORT)],
  ['latency', common('low: no CPU sleeps between requests', choice('latency', ['normal', 'low'], LATENCY))],
  ['confine', choice('confine', ['auto', 'off'], CONFINE)],
  ['restart', choice('restart', ['on', 'off'], RESTART)],
  [
    'transport',
    common('read /dev/fuse, or use io_uring (uring)', choice('transport', ['dev', 'uring', 'fuse-native'], TRANSPORT)),
  ],

  // FUSE
  ['allow_other', common('let other users in', chosen({ allowOther: true }, 'let other users in, as in FUSE'))],
  ['allow_root', takeAllowRoot],
  ['fsname', text('fsname', 'NAME', 'what mount(8) and findmnt(8) show as the source')],
  ['subtype', text('subtype', 'NAME', 'what mount(8) and findmnt(8) show as the type, after `fuse.`')],
  ['max_read', takeMaxRead],
  ['entry_timeout', seconds('seconds that the kernel may keep names', 'entryTimeout')],
  ['attr_timeout', seconds(ATTR_TIMEOUT, 'attrTimeout')],
  ['negative_timeout', seconds('seconds that the kernel may keep misses', 'negativeTimeout')],
  ['dentry_cache', valued('N', DENTRY_CACHE, takeDentries)],
  ['timeout', seconds('`entry_timeout` and `attr_timeout` at once', 'entryTimeout', 'attrTimeout')],
  ['fd', refused('the mount point /dev/fd/N names a descriptor that is mounted already')],
  ['auto_unmount', idle('A mount never outlives its daemon.')],
  ...names('kernel_cache auto_cache noauto_cache direct_io use_ino readdir_ino nonempty big_writes', idle(FUSE)),
  ...names('async_read sync_read atomic_o_trunc clone_fd max_idle_threads max_threads max_write', idle(FUSE)),
  ...names('max_readahead max_background congestion_threshold splice_read splice_write splice_move', idle(FUSE)),
  ...names('no_splice_read no_splice_write no_splice_move hard_remove intr remember ac_attr_timeout', idle(FUSE)),

  // fuse-overlayfs
  ...names('threaded fast_ino fast_ino_check writeback static_nlink', idle(FUSE_OVERLAYFS)),
  ['uidmapping', mapped('uids', UIDMAPPING)],
  ['gidmapping', mapped('gids', 'the same for groups')],
  ['squash_to_root', flag('`squash_to_uid=0` and `squash_to_gid=0`, unless those are given', squashToRoot)],
  ['squash_to_uid', squashed('uids', SQUASH_TO_UID)],
  ['squash_to_gid', squashed('gids', 'the same for groups')],
  ['idmap', valued('PATH', IDMAP, ({ driver }, value) => Object.assign(driver, { idmap: unescaped(value) }))],
  ...names('uid gid umask', refused(NO_IDS)),
  ['noxattrs', refused('extended attributes are shown as they are')],
  ['plugins', refused(NO_REMOTE)],

  // mount.erofs, for remote layers
  ...names('oci.blob oci.layer oci.platform oci.username oci.password oci.insecure offline', refused(NO_REMOTE)),
  ...names('s3.endpoint s3.region s3.passwd_file s3.urlstyle cache cache_max', refused(NO_REMOTE)),
  ...names('context fscontext defcontext rootcontext', refused(NO_LABELS)),

  // mount(8)
  ...names('defaults auto noauto user nouser users nousers owner noowner group nogroup nofail fail', OF_MOUNT),
  ...names('_netdev loop uhelper comment helper user_id group_id rootmode setuid drop_privileges', OF_MOUNT),
  ['ro', on('ro')],
  ['rw', ofEveryMount(flag('changes are allowed, with `upperdir`: the default', ({ flags }) => flags.delete('ro')))],
  ...names('async nolazytime norelatime nostrictatime iversion noiversion mand nomand silent loud', OF_MOUNT),
  ...(Object.keys(mountFlags) as MountFlag[]).filter(name => name !== 'ro').map(name => [name, on(name)] as const),
  ['suid', off('nosuid')],
  ['dev', off('nodev')],
  ['exec', off('noexec')],
  ['atime', off('noatime')],
  ['diratime', off('nodiratime')],
]);

/** Whether mount(8) has the option for every filesystem. */
export const isOfEveryMount = (key: ByteString): boolean =>
  isComment(key) || mountOptions.get(key)?.ofEveryMount === true;

/** Whether the option is a comment (`x-` or `X-`), which mount(8) keeps for other programs. */
export const isComment = (key: ByteString): boolean => /^[xX]-/.test(key);

function names(list: string, option: MountOption): [ByteString, MountOption][] {
  return list.split(' ').map(name => [name, option]);
}
