/** The options of a stack: what was chosen, what applies by default, and the rules of lookup that follow. */
import type { ByteString } from '../../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../../sys/errno.ts';
import type { LayerSpec } from './lowerdir.ts';

/** The rules by which a stack is looked up, independent of its layers. */
export interface RuleOptions {
  /** Whether a metacopy file may take its data from a normal layer below. */
  readonly metacopy: boolean;
  /** Whether redirects are followed. */
  readonly redirectDir: 'follow' | 'nofollow';
  /**
   * Whether data is checked against the digest of its metacopy xattr. require: in addition, every metacopy file must have a
   * digest.
   */
  readonly verity: 'off' | 'on' | 'require';
  /** Whether the xattrs of the overlay are `user.overlay.*` instead of `trusted.overlay.*`. */
  readonly userxattr: boolean;
  /**
   * Where the absolute redirect of a metacopy file may lead. kernel: into every layer below; data-only: only into data-only
   * layers; strict: as data-only, and the file must carry a digest.
   */
  readonly redirects: 'kernel' | 'data-only' | 'strict';
  /** kernel: a redirect that begins with `//` fails with EINVAL, as in Linux 6.18; lowerdata: it leads to data-only layers. */
  readonly semantics: 'lowerdata' | 'kernel';
  /** Whether data that is not found by path is found by its origin, if its metacopy xattr has a digest to check it against. */
  readonly followOrigin: boolean;
  /**
   * Which whiteouts directory layers have. kernel: those of overlayfs; both: also files named `.wh.NAME`, as container engines
   * extract layers.
   */
  readonly whiteouts?: 'kernel' | 'both';
  /**
   * Whether owners and modes come from an xattr of each object. 0: in layers whose root has that xattr; 1, 2: and changes of the
   * upper layer are stored so, too, in the xattr of root or in that of users. undefined: they are those of the inodes.
   */
  readonly xattrPermissions?: '0' | '1' | '2';
  /** Whether every inode number must fit into 32 bits, even if an entry has to be kept for each object with a larger one. */
  readonly ino32?: boolean;
}

/** The directories that a mount writes to, as its options name them. */
export interface UpperOptions {
  readonly upperdir: ByteString;
  /** A directory on the same mount, for objects in the making. */
  readonly workdir: ByteString;
  /** Whether directories of lower layers can be renamed: the option redirect_dir=on. */
  readonly redirects: boolean;
  /** Whether nothing is synchronized with the disk. marked: and the work directory says so to the next mount. */
  readonly volatile: boolean | 'marked';
  /** Whether a lower file with several names stays one file when it is copied up: the option index=on. */
  readonly index: boolean;
}

/** An image that was found in a repository, in place of a path to it. */
export interface StoredName {
  readonly store: ByteString;
  /** The name of the image there, or its digest. */
  readonly name: ByteString;
  /** Whether the digest that the image must have is the one that the repository has for the name, and not one that was given. */
  readonly givesDigest: boolean;
}

/** A whole stack: its layers, and the rules by which they are looked up. */
export interface StackOptions extends RuleOptions {
  /** The directories that are written to; absent for a read-only stack. */
  readonly upper?: UpperOptions;
  /** Normal layers, top first, then the data-only ones in order. */
  readonly layers: readonly LayerSpec[];
  /** The fs-verity digest that the top layer, an image, must have: `[sha256:|sha512:]HEX`. */
  readonly imageDigest?: string;
  /** How the top layer was named; absent if by its path. */
  readonly stored?: StoredName;
}

/** The options that were chosen; defaults apply to the others. */
export interface StackChoices {
  metacopy?: boolean;
  /** off: the default applies, as in the kernel; on: renames of directories in a writable mount also make redirects. */
  redirectDir?: 'on' | 'follow' | 'nofollow' | 'off';
  upperdir?: ByteString;
  workdir?: ByteString;
  volatile?: boolean;
  /** off: as volatile, but no mark is left in the work directory. */
  fsync?: 'on' | 'off';
  index?: boolean;
  verity?: RuleOptions['verity'];
  userxattr?: boolean;
  redirects?: RuleOptions['redirects'];
  semantics?: RuleOptions['semantics'];
  followOrigin?: boolean;
  whiteouts?: RuleOptions['whiteouts'];
  xattrPermissions?: '0' | '1' | '2';
  ino32?: boolean;
  /** As in StackOptions; if it is given and `verity` is not, `verity` is `require`. */
  imageDigest?: string;
}

/** The defaults for options that are not chosen, and the minimum number of layers. */
export interface StackDefaults {
  readonly metacopy: boolean;
  readonly redirectDir: 'follow' | 'nofollow';
  readonly verity: 'off' | 'on' | 'require';
  readonly redirects: 'kernel' | 'data-only' | 'strict';
  readonly layersMin: 1 | 2;
}

/**
 * For `-o lowerdir=…`: as a kernel whose module parameters are metacopy=N and redirect_always_follow=Y.
 * @example
 * const { metacopy, verity } = settleRules({}, KERNEL_DEFAULTS);
 * assert.deepEqual([metacopy, verity], [false, 'off']);
 */
export const KERNEL_DEFAULTS: StackDefaults = {
  metacopy: false,
  redirectDir: 'follow',
  verity: 'off',
  redirects: 'kernel',
  layersMin: 2,
};
/**
 * For `A:B::C` without options.
 * @example
 * const { metacopy, verity, redirects } = settleRules({}, STACK_DEFAULTS);
 * assert.deepEqual([metacopy, verity, redirects], [true, 'on', 'kernel']);
 */
export const STACK_DEFAULTS: StackDefaults = { ...KERNEL_DEFAULTS, metacopy: true, verity: 'on', layersMin: 1 };
/** For a mount program of containers/storage, which gets fewer options than the kernel would. */
export const MOUNT_PROGRAM_DEFAULTS: StackDefaults = { ...KERNEL_DEFAULTS, metacopy: true, verity: 'on', layersMin: 1 };
/**
 * For a composefs image, whose files are redirects to objects.
 * @example
 * assert.equal(settleRules({}, IMAGE_DEFAULTS).redirects, 'data-only');
 */
export const IMAGE_DEFAULTS: StackDefaults = { ...STACK_DEFAULTS, redirects: 'data-only' };

/**
 * The defaults for layers that are named without options: IMAGE_DEFAULTS if every normal layer is an image, otherwise
 * STACK_DEFAULTS.
 * @param isImage whether a layer is a file
 * @example
 * const isImage = (path: string): boolean => statSync(path).isFile();
 * assert.equal(defaultsFor(parseLowerdir('image.cfs::tree'), isImage), IMAGE_DEFAULTS);
 * assert.equal(defaultsFor(parseLowerdir('tree:empty'), isImage), STACK_DEFAULTS);
 */
export function defaultsFor(layers: readonly LayerSpec[], isImage: (path: ByteString) => boolean): StackDefaults {
  return layers.every(({ path, dataOnly }) => dataOnly || isImage(path)) ? IMAGE_DEFAULTS : STACK_DEFAULTS;
}

/**
 * Combines choices and defaults into rules. Throws EINVAL, naming the options, for choices that conflict.
 * @example
 * assert.equal(settleRules({ userxattr: true }).redirectDir, 'nofollow');
 * assert.throws(() => settleRules({ userxattr: true, metacopy: true }), /conflicts with metacopy=on/);
 */
export function settleRules(given: StackChoices = {}, defaults: StackDefaults = STACK_DEFAULTS): RuleOptions {
  return {
    ...following(given, defaults),
    verity: given.verity ?? (given.imageDigest ? 'require' : defaults.verity), // a trusted image vouches for its objects
    userxattr: given.userxattr ?? false,
    redirects: given.redirects ?? defaults.redirects,
    semantics: given.semantics ?? 'lowerdata',
    followOrigin: given.followOrigin ?? true,
    ...(given.whiteouts === 'both' && { whiteouts: 'both' }),
    ...(given.xattrPermissions && { xattrPermissions: given.xattrPermissions }),
    ...(given.ino32 && { ino32: true }),
  };
}

/**
 * metacopy requires that redirects are followed; userxattr allows neither. Source: linux/fs/overlayfs/params.c,
 * ovl_fs_params_verify.
 */
function following(given: StackChoices, defaults: StackDefaults): Pick<RuleOptions, 'metacopy' | 'redirectDir'> {
  const metacopy = given.metacopy ?? defaults.metacopy;
  const { redirectDir: wanted } = given;
  const asked = wanted === 'off' ? defaults.redirectDir : wanted === 'on' ? 'follow' : wanted;
  const redirectDir = asked ?? defaults.redirectDir;
  if (given.metacopy && asked === 'nofollow') {
    throw new ErrnoError(EINVAL, `metacopy=on: conflicts with redirect_dir=${given.redirectDir}`);
  }
  if (given.userxattr) {
    if (asked === 'follow')
      throw new ErrnoError(EINVAL, 'userxattr: conflicts with redirect_dir, which follows redirects');
    if (given.metacopy) throw new ErrnoError(EINVAL, 'userxattr: conflicts with metacopy=on');
    return { metacopy: false, redirectDir: 'nofollow' };
  }
  if (metacopy && redirectDir === 'nofollow') {
    return asked ? { metacopy: false, redirectDir } : { metacopy, redirectDir: 'follow' };
  }
  return { metacopy, redirectDir };
}
