/** Parses the option text of a mount into the layers of a stack and the rules of its lookup. It touches no filesystem. */
import { type ByteString, printable } from '../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../sys/errno.ts';
import { digestFromText } from '../verity/algorithms.ts';

/** One layer: the path by which it is opened, relative to the current directory of the process that mounts. */
export interface LayerSpec {
  readonly path: ByteString;
  readonly dataOnly: boolean;
}

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
  /** Whether every inode number must fit into 32 bits, even if an entry has to be kept for each object with a larger one. */
  readonly ino32?: boolean;
}

/** A whole stack: its layers, and the rules by which they are looked up. */
export interface StackOptions extends RuleOptions {
  /** Normal layers, top first, then the data-only ones in order. */
  readonly layers: readonly LayerSpec[];
  /** The fs-verity digest that the top layer, an image, must have: `[sha256:|sha512:]HEX`. */
  readonly imageDigest?: string;
}

/** The options that were chosen; defaults apply to the others. */
export interface StackChoices {
  metacopy?: boolean;
  /** off: the default applies, as in the kernel. */
  redirectDir?: 'follow' | 'nofollow' | 'off';
  verity?: RuleOptions['verity'];
  userxattr?: boolean;
  redirects?: RuleOptions['redirects'];
  semantics?: RuleOptions['semantics'];
  followOrigin?: boolean;
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

/** For `-o lowerdir=…`: as a kernel whose module parameters are metacopy=N and redirect_always_follow=Y. */
export const KERNEL_DEFAULTS: StackDefaults = {
  metacopy: false,
  redirectDir: 'follow',
  verity: 'off',
  redirects: 'kernel',
  layersMin: 2,
};
/** For `A:B::C` without options. */
export const STACK_DEFAULTS: StackDefaults = { ...KERNEL_DEFAULTS, metacopy: true, verity: 'on', layersMin: 1 };
/** For a composefs image, whose files are redirects to objects. */
export const IMAGE_DEFAULTS: StackDefaults = { ...STACK_DEFAULTS, redirects: 'data-only' };

/** The defaults for layers that are named without options. @param isImage whether a layer is a file */
export function defaultsFor(layers: readonly LayerSpec[], isImage: (path: ByteString) => boolean): StackDefaults {
  return layers.every(({ path, dataOnly }) => dataOnly || isImage(path)) ? IMAGE_DEFAULTS : STACK_DEFAULTS;
}

/** The maximum number of layers, data-only ones included. Source: linux/fs/overlayfs/params.c, OVL_MAX_STACK. */
export const LAYERS_MAX = 500;

/** One option; `value` is undefined for a flag. */
export interface Option {
  readonly key: ByteString;
  readonly value: ByteString | undefined;
}

/**
 * Splits an option string at commas. A backslash keeps the next byte from separating options, and stays in the value.
 * Empty options, and those without a key, are dropped. Source: linux/fs/overlayfs/params.c, ovl_next_opt.
 */
export function splitOptions(text: ByteString): Option[] {
  const options: Option[] = [];
  for (const option of splitAt(text, ',')) {
    const equals = option.indexOf('=');
    if (equals > 0) options.push({ key: option.slice(0, equals), value: option.slice(equals + 1) });
    else if (equals < 0 && option !== '') options.push({ key: option, value: undefined });
  }
  return options;
}

/** Splits `text` at separators that have no backslash before them; backslashes stay. */
export function splitAt(text: ByteString, separator: ',' | ':'): ByteString[] {
  const pieces: ByteString[] = [];
  let from = 0;
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '\\') i++;
    else if (text[i] === separator) {
      pieces.push(text.slice(from, i));
      from = i + 1;
    }
  }
  pieces.push(text.slice(from));
  return pieces;
}

/**
 * Parses the layers of `A:B::C::D`: normal ones follow single colons, data-only ones follow double colons.
 * Throws EINVAL, with `option` and the place in the text, for colons that separate nothing and for `:` after `::`.
 */
export function parseLowerdir(text: ByteString, option = 'lowerdir'): LayerSpec[] {
  const pieces = splitAt(text, ':');
  const layers: LayerSpec[] = [];
  let at = 0; // byte offset where the piece begins
  let dataOnly = false; // whether the previous piece was empty, that is, the inside of a double colon
  for (const [i, piece] of pieces.entries()) {
    if (piece !== '') {
      if (!dataOnly && layers.at(-1)?.dataOnly)
        throw misplaced(option, text, at, 'a normal layer after a data-only one');
      const path = withoutBackslashes(piece);
      if (path === '') throw misplaced(option, text, at, 'a backslash alone');
      layers.push({ path, dataOnly });
      dataOnly = false;
    } else {
      if (i === 0) throw misplaced(option, text, at, text === '' ? 'no layer' : 'a colon before the first layer');
      if (i === pieces.length - 1) throw misplaced(option, text, at, 'no layer after the last colon');
      if (dataOnly) throw misplaced(option, text, at, 'more than two colons in a row');
      dataOnly = true;
    }
    at += piece.length + 1;
  }
  return layers;
}

/** Drops each backslash and keeps the byte after it as it is; a backslash at the end is dropped. */
function withoutBackslashes(text: ByteString): ByteString {
  return text.replace(/\\(.?)/gs, '$1');
}

function misplaced(option: string, text: ByteString, at: number, what: string): ErrnoError {
  return new ErrnoError(EINVAL, `${option}=${printable(text)}: ${what}, at byte ${at}`);
}

/** The help text of a mount option. */
export interface OptionWords {
  /** The values that the option takes: a list to choose from, or a placeholder for any value. A flag takes none. */
  readonly values?: string | readonly string[];
  /** What the option does, or why it is refused; `code` is in backquotes. */
  readonly what: string;
  readonly effect: 'taken' | 'without effect' | 'refused';
}

/** An option of lowerdata or of overlayfs. */
interface Row extends OptionWords {
  readonly take: (draft: StackDraft, value: ByteString) => void;
}

const SWITCH = ['on', 'off'] as const;

const taken = (values: Row['values'], what: string, take: Row['take']): Row => ({
  ...(values && { values }),
  ...{ what, effect: 'taken', take },
});
const flag = (what: string, take: Row['take']): Row => taken(undefined, what, take);

const IDLE = 'Of overlayfs; nothing here depends on it.';
const idle = (values?: Row['values']): Row => ({ ...taken(values, IDLE, () => {}), effect: 'without effect' });

const LOWERDIR = 'the layers, data-only ones after `::`; a backslash escapes `:`, `,` and itself, as in overlayfs';
const REDIRECTS =
  'where the absolute redirect of a metacopy file may lead: every layer below, or data-only layers alone ' +
  '(default for images); `strict` also requires digests';
const INO32 =
  'no inode number has more than 32 bits, as in fuse-overlayfs; most have not anyway, and each that has (on a large xfs, in a ' +
  'subvolume, on a network filesystem) takes 60 bytes for good when it is looked up';
const DIGEST =
  'the fs-verity digest that the (top) image must have: 64 digits of SHA-256 or 128 of SHA-512; `sha256:` or `sha512:` may ' +
  'stand before them; data is then checked as with `verity=require`, unless `verity=` says otherwise';
const FOLLOW_ORIGIN =
  'whether data that is not found by path is found by origin; needs CAP_DAC_READ_SEARCH, or `lowerdata index` in the layer';

/** All options. Source: linux/fs/overlayfs/params.c, ovl_parameter_spec; the last five are ours. */
const rows = new Map<ByteString, Row>([
  ['lowerdir', taken('A:B::C', LOWERDIR, (draft, value) => draft.replaceLayers(value))],
  [
    'lowerdir+',
    taken('LAYER', 'one more layer, below those before it; nothing is escaped in its path', (draft, value) =>
      draft.addLayer(value, false),
    ),
  ],
  ['datadir+', taken('LAYER', 'one more data-only layer, likewise', (draft, value) => draft.addLayer(value, true))],
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
      'whether redirects are followed, as in overlayfs; `on` is `follow`, `off` leaves the default',
      takeRedirectDir,
    ),
  ],
  [
    'verity',
    taken(
      ['off', 'on', 'require'],
      'check digests; `require`: a metacopy file without one can not be opened',
      choose('verity'),
    ),
  ],
  [
    'userxattr',
    flag(
      "the overlay's attributes are `user.overlay.*`, as in overlayfs; excludes metacopy and redirects",
      ({ given }) => (given.userxattr = true),
    ),
  ],
  ['upperdir', { ...taken('DIR', 'A writable layer is not supported yet.', refuseUpper), effect: 'refused' }],
  ['workdir', idle('DIR')],
  ['index', idle(SWITCH)],
  ['nfs_export', idle(SWITCH)],
  ['xino', idle(['on', 'off', 'auto'])],
  ['uuid', idle(['on', 'off', 'null', 'auto'])],
  ['volatile', idle()],
  ['default_permissions', idle()],
  ['override_creds', idle()],
  ['nooverride_creds', idle()],
  ['redirects', taken(['kernel', 'data-only', 'strict'], REDIRECTS, choose('redirects'))],
  [
    'follow_origin',
    taken(['verity', 'off'], FOLLOW_ORIGIN, ({ given }, value) => (given.followOrigin = value === 'verity')),
  ],
  [
    'semantics',
    taken(['lowerdata', 'kernel'], '`kernel`: a `//` redirect is an error, as in Linux 6.18', choose('semantics')),
  ],
  ['ino32_t', flag(INO32, ({ given }) => (given.ino32 = true))],
  ['digest', taken('HEX', DIGEST, takeDigest)],
]);

/** The help texts of these options, by option name. */
export const stackOptionWords: ReadonlyMap<ByteString, OptionWords> = rows;

function takeRedirectDir({ given }: StackDraft, value: ByteString): void {
  given.redirectDir = value === 'on' ? 'follow' : (value as 'off' | 'follow' | 'nofollow');
}

function choose<K extends 'verity' | 'redirects' | 'semantics'>(
  key: K,
): (draft: StackDraft, value: ByteString) => void {
  return ({ given }, value) => {
    given[key] = value as StackChoices[K]; // one of the row's values
  };
}

function takeDigest({ given }: StackDraft, value: ByteString): void {
  given.imageDigest = digestFromText(value);
  if (given.imageDigest === undefined) {
    throw new ErrnoError(
      EINVAL,
      `digest=${printable(value)}: not the 64 hexadecimal digits of an fs-verity SHA-256 digest, nor the 128 of SHA-512`,
    );
  }
}

function refuseUpper(): never {
  throw new ErrnoError(EINVAL, 'upperdir: a writable layer is not supported yet');
}

/** Collects the options of one mount in their order; `finish` checks that they go together. */
export class StackDraft {
  readonly given: StackChoices;
  private layers: LayerSpec[] = [];
  /** Which option gave the layers: after `lowerdir`, none can be appended. */
  private form: 'lowerdir' | 'appended' | undefined;

  /** @param given the choices before the first option */
  constructor(given: StackChoices = {}) {
    this.given = { ...given };
  }

  /** Whether options name the layers, and not the source of the mount. */
  get hasLayers(): boolean {
    return this.form !== undefined;
  }

  /**
   * Takes one option. @returns `without effect` for an option that is known, but on which nothing here depends
   * Throws EINVAL, naming the option, for a value that it does not take, for a missing value, and for a value given to a flag.
   */
  set(key: ByteString, value: ByteString | undefined): 'taken' | 'without effect' | 'unknown' {
    const row = rows.get(key);
    if (!row) return 'unknown';
    if (!row.values && value !== undefined) throw new ErrnoError(EINVAL, `${key}: takes no value`);
    if (row.values && !value) throw new ErrnoError(EINVAL, `${key}: needs a value`);
    if (Array.isArray(row.values) && !row.values.includes(value)) {
      throw new ErrnoError(EINVAL, `${key}=${printable(value ?? '')}: not one of ${row.values.join(', ')}`);
    }
    row.take(this, value ?? '');
    return row.effect === 'taken' ? 'taken' : 'without effect';
  }

  /** Takes `lowerdir=`, or the source of a mount. Earlier layers are dropped. */
  replaceLayers(text: ByteString): void {
    this.layers = parseLowerdir(text);
    this.form = 'lowerdir';
  }

  /** Takes `lowerdir+=` or `datadir+=`: one layer, whose path is used as it is. */
  addLayer(path: ByteString, dataOnly: boolean): void {
    const option = dataOnly ? 'datadir+' : 'lowerdir+';
    if (this.form === 'lowerdir') throw new ErrnoError(EINVAL, `${option}=${printable(path)}: comes after lowerdir`);
    if (!dataOnly && this.layers.at(-1)?.dataOnly) {
      throw new ErrnoError(EINVAL, `${option}=${printable(path)}: a normal layer after a data-only one`);
    }
    this.layers.push({ path, dataOnly });
    this.form = 'appended';
  }

  /** Checks the options that depend on each other. @param objects further data-only layers, after all others */
  finish(defaults: StackDefaults, objects: readonly ByteString[] = []): StackOptions {
    const layers = [...this.layers, ...objects.map(path => ({ path, dataOnly: true }))];
    checkCounts(layers, defaults.layersMin);
    const { imageDigest } = this.given;
    return { layers, ...settleRules(this.given, defaults), ...(imageDigest && { imageDigest }) };
  }
}

/** Combines choices and defaults into rules. Throws EINVAL, naming the options, for choices that conflict. */
export function settleRules(given: StackChoices = {}, defaults: StackDefaults = STACK_DEFAULTS): RuleOptions {
  return {
    ...following(given, defaults),
    verity: given.verity ?? (given.imageDigest ? 'require' : defaults.verity), // a trusted image vouches for its objects
    userxattr: given.userxattr ?? false,
    redirects: given.redirects ?? defaults.redirects,
    semantics: given.semantics ?? 'lowerdata',
    followOrigin: given.followOrigin ?? true,
    ...(given.ino32 && { ino32: true }),
  };
}

/**
 * metacopy requires that redirects are followed; userxattr allows neither. Source: linux/fs/overlayfs/params.c,
 * ovl_fs_params_verify.
 */
function following(given: StackChoices, defaults: StackDefaults): Pick<RuleOptions, 'metacopy' | 'redirectDir'> {
  const metacopy = given.metacopy ?? defaults.metacopy;
  const asked = given.redirectDir === 'off' ? defaults.redirectDir : given.redirectDir;
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

function checkCounts(layers: readonly LayerSpec[], layersMin: number): void {
  if (!layers.some(layer => !layer.dataOnly)) throw new ErrnoError(EINVAL, 'lowerdir: no normal layer');
  if (layers.length < layersMin) throw new ErrnoError(EINVAL, 'lowerdir: a stack needs two layers at least');
  if (layers.length > LAYERS_MAX) {
    throw new ErrnoError(EINVAL, `lowerdir: ${layers.length} layers, more than ${LAYERS_MAX}`);
  }
}
