/** Makes the option text of a mount into the layers of a stack and the rules of its lookup. It touches no filesystem. */
import { type ByteString, printable } from '../../sys/bytes.ts';
import { EINVAL, ErrnoError } from '../../sys/errno.ts';
import { LAYERS_MAX, type LayerSpec, parseLowerdir } from './lowerdir.ts';
import { type StackChoices, type StackDefaults, type StackOptions, settleRules, type UpperOptions } from './rules.ts';
import { stackOptions } from './table.ts';

/**
 * Collects the options of one mount in their order; `finish` checks that they go together.
 * @example
 * const draft = new StackDraft();
 * for (const { key, value } of splitOptions('lowerdir=tree:empty,metacopy=on')) draft.set(key, value);
 * const { layers, metacopy } = draft.finish(KERNEL_DEFAULTS);
 * assert.deepEqual(layers.map(({ path }) => path), ['tree', 'empty']);
 * assert.equal(metacopy, true);
 */
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
    const option = stackOptions.get(key);
    if (!option) return 'unknown';
    if (!option.values && value !== undefined) throw new ErrnoError(EINVAL, `${key}: takes no value`);
    if (option.values && !value) throw new ErrnoError(EINVAL, `${key}: needs a value`);
    if (Array.isArray(option.values) && !option.values.includes(value)) {
      throw new ErrnoError(EINVAL, `${key}=${printable(value ?? '')}: not one of ${option.values.join(', ')}`);
    }
    option.take(this, value ?? '');
    return option.effect === 'taken' ? 'taken' : 'without effect';
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
    checkCounts(layers, this.given.upperdir === undefined ? defaults.layersMin : 1);
    const { imageDigest } = this.given;
    const upper = upperOf(this.given);
    const settled = settleRules(this.given, upper ? writableDefaults(defaults, this.given) : defaults);
    return { layers, ...settled, ...(upper && { upper }), ...(imageDigest && { imageDigest }) };
  }
}

/** With an upper layer, changes of attributes copy no data, and one lower layer is enough. */
const writableDefaults = (defaults: StackDefaults, { userxattr }: StackChoices): StackDefaults => ({
  ...defaults,
  metacopy: !userxattr,
});

/** The directories that are written to. Throws EINVAL, naming the option, if one is given without the other. */
function upperOf({
  upperdir,
  workdir,
  volatile,
  fsync,
  userxattr,
  redirectDir,
  index = false,
}: StackChoices): UpperOptions | undefined {
  if (upperdir === undefined) return undefined; // workdir, volatile and index then mean nothing, as in the kernel
  if (workdir === undefined)
    throw new ErrnoError(EINVAL, 'upperdir: needs workdir, an empty directory on the same mount');
  const redirects = !userxattr && (redirectDir === undefined || redirectDir === 'on');
  return { upperdir, workdir, redirects, volatile: volatile ? 'marked' : fsync === 'off', index };
}

function checkCounts(layers: readonly LayerSpec[], layersMin: number): void {
  if (!layers.some(layer => !layer.dataOnly)) throw new ErrnoError(EINVAL, 'lowerdir: no normal layer');
  if (layers.length < layersMin) throw new ErrnoError(EINVAL, 'lowerdir: a stack needs two layers at least');
  if (layers.length > LAYERS_MAX) {
    throw new ErrnoError(EINVAL, `lowerdir: ${layers.length} layers, more than ${LAYERS_MAX}`);
  }
}
