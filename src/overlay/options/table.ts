/** The options of lowerdata and overlayfs that choose layers and rules: their values, their help texts, and their effects. */
import { type ByteString, printable } from '../../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../../sys/errno.ts';
import { digestFromText } from '../../verity/algorithms.ts';
import type { StackChoices } from './rules.ts';

/** The help text of a mount option. */
export interface OptionWords {
  /** The values that the option takes: a list to choose from, or a placeholder for any value. A flag takes none. */
  readonly values?: string | readonly string[];
  /** What the option does, or why it is refused; `code` is in backquotes. */
  readonly what: string;
  readonly effect: 'taken' | 'without effect' | 'refused';
  /** One short line, for the options that most users need: `lowerdata mount --help` shows those that have it. */
  readonly brief?: string;
}

/** Gives an option its line in `lowerdata mount --help`. */
export const common = <Option extends OptionWords>(brief: string, option: Option): Option => ({ ...option, brief });

/** What an option changes: a StackDraft. */
export interface OptionTarget {
  readonly given: StackChoices;
  replaceLayers(text: ByteString): void;
  addLayer(path: ByteString, dataOnly: boolean): void;
}

/** An option of lowerdata or of overlayfs. */
export interface StackOption extends OptionWords {
  readonly take: (draft: OptionTarget, value: ByteString) => void;
}

const SWITCH = ['on', 'off'] as const;

const taken = (values: StackOption['values'], what: string, take: StackOption['take']): StackOption => ({
  ...(values && { values }),
  ...{ what, effect: 'taken', take },
});
const flag = (what: string, take: StackOption['take']): StackOption => taken(undefined, what, take);

const IDLE = 'An option of overlayfs that changes nothing here.';
const idle = (values?: StackOption['values']): StackOption => ({
  ...taken(values, IDLE, () => {}),
  effect: 'without effect',
});

const LOWERDIR = 'the layers, data-only ones after `::`; a backslash escapes `:`, `,` and itself, as in overlayfs';
const REDIRECTS =
  'where the absolute redirect of a metacopy file may lead: every layer below, or only data-only layers ' +
  '(default for images); `strict` also requires digests';
const INO32 =
  'show no inode number of more than 32 bits, as in fuse-overlayfs; an object with a larger number (on a large xfs, in a ' +
  'subvolume, on a network filesystem) takes 60 bytes of memory from its first lookup until the mount ends';
const FSYNC =
  '`0`: no change is synchronized with the disk, as in fuse-overlayfs; unlike `volatile`, it leaves no mark in `workdir`';
const INDEX =
  'with `upperdir`: whether a lower file with several names stays one file when it is changed, as in overlayfs; the upper directory ' +
  'can then be used with these layers and this `workdir` alone';
const WHITEOUTS =
  'which whiteouts directory layers below have: those of overlayfs, or `both` these and files named `.wh.NAME`, as container ' +
  'engines extract layers';
const XATTR_PERMISSIONS =
  'owners and modes are those that an xattr of each object says, as in fuse-overlayfs and with `force_mask` of containers/storage: `0`: ' +
  'in layers whose root has it; `2`: and new ones of the upper directory are stored so, in `user.containers.override_stat`; `1`: in ' +
  '`security.fuseoverlayfs.override_stat`, which takes CAP_SYS_ADMIN';
const DIGEST =
  'the fs-verity digest that the (top) image must have: 64 digits of SHA-256 or 128 of SHA-512, after `sha256:` or `sha512:` ' +
  'if wanted; data is then checked as with `verity=require`, unless `verity=` says otherwise';
const FOLLOW_ORIGIN =
  'whether data that is not found by path is found by origin; needs CAP_DAC_READ_SEARCH, or `lowerdata index` in the layer';

/** All options. Source: linux/fs/overlayfs/params.c, ovl_parameter_spec; the last seven, and `fsync`, are ours. */
export const stackOptions: ReadonlyMap<ByteString, StackOption> = new Map<ByteString, StackOption>([
  [
    'lowerdir',
    common(
      'the layers; data-only ones after ::',
      taken('A:B::C', LOWERDIR, (draft, value) => draft.replaceLayers(value)),
    ),
  ],
  [
    'lowerdir+',
    taken('LAYER', 'one more layer, below the earlier ones; its path has no escapes', (draft, value) =>
      draft.addLayer(value, false),
    ),
  ],
  [
    'datadir+',
    taken('LAYER', 'one more data-only layer, below the earlier ones; its path has no escapes', (draft, value) =>
      draft.addLayer(value, true),
    ),
  ],
  [
    'metacopy',
    taken(
      SWITCH,
      'whether a file may have its data in a layer below, as in overlayfs',
      ({ given }, value) => (given.metacopy = value === 'on'),
    ),
  ],
  [
    'redirect_dir',
    taken(
      ['on', 'off', 'follow', 'nofollow'],
      'whether redirects are followed, as in overlayfs; `on`: renaming a directory of a lower layer makes one, too (default with ' +
        '`upperdir`); `off` leaves the default',
      takeRedirectDir,
    ),
  ],
  [
    'verity',
    common(
      'whether data is checked by its digest',
      taken(
        ['off', 'on', 'require'],
        'whether data is checked by its digest; `require`: a metacopy file without a digest cannot be opened',
        choose('verity'),
      ),
    ),
  ],
  [
    'userxattr',
    common(
      "the overlay's attributes are user.overlay.*",
      flag(
        "the overlay's attributes are `user.overlay.*`, as in overlayfs; excludes metacopy and redirects",
        ({ given }) => (given.userxattr = true),
      ),
    ),
  ],
  [
    'upperdir',
    common(
      'the directory that takes all changes',
      taken(
        'DIR',
        'the directory that takes all changes, in the format of overlayfs; needs `workdir`',
        ({ given }, value) => {
          given.upperdir = unescaped(value);
        },
      ),
    ),
  ],
  [
    'workdir',
    common(
      'an empty directory beside upperdir',
      taken(
        'DIR',
        'an empty directory on the same mount as `upperdir`, for objects in the making',
        ({ given }, value) => {
          given.workdir = unescaped(value);
        },
      ),
    ),
  ],
  ['index', taken(SWITCH, INDEX, ({ given }, value) => (given.index = value === 'on'))],
  ['nfs_export', idle(SWITCH)],
  ['xino', idle(['on', 'off', 'auto'])],
  ['uuid', idle(['on', 'off', 'null', 'auto'])],
  ['fsync', taken(['0', '1'], FSYNC, ({ given }, value) => (given.fsync = value === '0' ? 'off' : 'on'))],
  [
    'volatile',
    flag(
      'no change is synchronized with the disk; the next mount is refused until `workdir/work/incompat` is removed, as in overlayfs',
      ({ given }) => (given.volatile = true),
    ),
  ],
  ['default_permissions', idle()],
  ['override_creds', idle()],
  ['nooverride_creds', idle()],
  [
    'redirects',
    common(
      'where redirects to data may lead',
      taken(['kernel', 'data-only', 'strict'], REDIRECTS, choose('redirects')),
    ),
  ],
  [
    'follow_origin',
    taken(['verity', 'off'], FOLLOW_ORIGIN, ({ given }, value) => (given.followOrigin = value === 'verity')),
  ],
  [
    'semantics',
    taken(['lowerdata', 'kernel'], '`kernel`: a `//` redirect is an error, as in Linux 6.18', choose('semantics')),
  ],
  ['whiteouts', taken(['kernel', 'both'], WHITEOUTS, choose('whiteouts'))],
  [
    'xattr_permissions',
    taken(['0', '1', '2'], XATTR_PERMISSIONS, ({ given }, value) => {
      given.xattrPermissions = value as '0' | '1' | '2';
    }),
  ],
  ['ino32_t', flag(INO32, ({ given }) => (given.ino32 = true))],
  ['digest', common('the digest that the top image must have', taken('HEX', DIGEST, takeDigest))],
]);

/** The help texts of these options, by option name. */
export const stackOptionWords: ReadonlyMap<ByteString, OptionWords> = stackOptions;

function takeRedirectDir({ given }: OptionTarget, value: ByteString): void {
  given.redirectDir = value as 'on' | 'off' | 'follow' | 'nofollow';
}

function choose<K extends 'verity' | 'redirects' | 'semantics' | 'whiteouts'>(
  key: K,
): (draft: OptionTarget, value: ByteString) => void {
  return ({ given }, value) => {
    given[key] = value as StackChoices[K]; // one of the row's values
  };
}

function takeDigest({ given }: OptionTarget, value: ByteString): void {
  given.imageDigest = digestFromText(value);
  if (given.imageDigest === undefined) {
    throw new ErrnoError(
      EINVAL,
      `digest=${printable(value)}: not the 64 hexadecimal digits of an fs-verity SHA-256 digest, nor the 128 of SHA-512`,
    );
  }
}

/** Drops each backslash and keeps the byte after it. Source: linux/fs/overlayfs/params.c, ovl_unescape. */
const unescaped = (value: ByteString): ByteString => value.replace(/\\(.?)/gs, '$1');
