/** Compares the image that was made with the digests that its own manifest names. */
import { EINVAL, ErrnoError } from '../../sys/errno.ts';
import { type Algorithm, algorithmOfHex } from '../../verity/algorithms.ts';
import type { OpenImage } from '../image.ts';
import { type InlineEntry, type InlineRole, readInline } from './inline.ts';
import { digestsOf } from './make.ts';

/** An image that was made of an OCI image. */
export interface MadeImage {
  /** Its fs-verity digest, in hex. */
  readonly digest: string;
  readonly isBootable: boolean;
  /** The digests of the images of the layers, from the lowest one upwards; none if they were not made. */
  readonly layers: readonly string[];
}

export interface Named {
  /** The digest that the manifest names for such an image, if it has signed that, too. */
  readonly signed: string | undefined;
  /** What is not as the manifest says. */
  readonly differences: readonly string[];
  /** What is wrong with the annotations, or is another image of a layer. */
  readonly faults: readonly string[];
}

/** Compares an image with what its manifest names by the same algorithm. */
export function compareNamed(image: OpenImage, made: MadeImage): Named {
  if (image.manifestBytes === undefined) return { signed: undefined, differences: [], faults: [] };
  const { entries, layers, faults } = readInline(image.manifestBytes, image.source.shown);
  const algorithm = algorithmOfHex(made.digest) as Algorithm;
  const find = (list: readonly InlineEntry[], role: InlineRole): InlineEntry | undefined =>
    list.find(entry => entry.role === role && entry.digest.length === made.digest.length);
  const own = find(entries, made.isBootable ? 'merged.bootable' : 'merged');
  const config = find(entries, 'config');
  const differences: string[] = [];
  const compare = (what: string, named: string | undefined, right: string): void => {
    if (named !== undefined && named !== right)
      differences.push(`its manifest names the digest ${named} for ${what}, which has ${right}`);
  };
  if (config) compare('the configuration', config.digest, digestsOf(image, algorithm).config);
  compare('the image', own?.digest, made.digest);
  const others = made.layers.flatMap((digest, i) => {
    const named = find(layers[i] ?? [], 'layer');
    return named === undefined || named.digest === digest ? [] : [i + 1];
  });
  const otherLayers =
    others.length > 0 ? [`its manifest names other digests for the images of layers: ${others.join(', ')}`] : [];
  return { signed: own?.signature && own.digest, differences, faults: [...faults, ...otherLayers] };
}

/**
 * Throws ErrnoError EINVAL if an image is not the one that its manifest names.
 * @param other the digest that the other rule for whiteouts makes, with the option for that rule
 */
export function checkNamed(image: OpenImage, made: MadeImage, other?: { digest: string; option: string }): void {
  const { differences } = compareNamed(image, made);
  if (differences.length === 0) return;
  const isOther = other !== undefined && differences.some(text => text.includes(other.digest));
  const hint = isOther ? `${other.option} makes that` : `--expect=${made.digest} takes it nevertheless`;
  throw new ErrnoError(EINVAL, `${image.source.shown}: ${differences.join('; ')}; ${hint}`);
}
