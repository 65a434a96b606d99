/**
 * Digests and signatures in the annotations of an image's own manifest. Source: composefs-rs, "OCI Sealing Specification for Composefs",
 * "Inline composefs metadata".
 *
 * ```
 * config.annotations       composefs.config.fsverity-sha256-12            = HEX    and …-12.sig = base64 of PKCS#7
 * layers[i].annotations    composefs.layer.erofs.v1.fsverity-sha256-12    = HEX
 * annotations              composefs.merged.erofs.v1.fsverity-sha256-12   = HEX    and …-12.sig
 * ```
 */
import * as v from 'valibot';
import { SIGNATURE_BYTES_MAX } from '../../seal/signature.ts';
import { ALGORITHMS, type Algorithm, algorithmOfHex } from '../../verity/algorithms.ts';
import { checked, parse } from '../documents.ts';
import { annotationOf } from './artifact.ts';

const OWN_ROLES = ['merged', 'merged.bootable'] as const;
export type InlineRole = 'config' | 'layer' | (typeof OWN_ROLES)[number];

/** A digest that a manifest names, in hex, with its signature if it has one. */
export interface InlineEntry {
  readonly role: InlineRole;
  readonly digest: string;
  readonly signature?: Uint8Array | undefined;
}

export interface Inline {
  /** Of the configuration and of merged images, by each algorithm. */
  readonly entries: readonly InlineEntry[];
  /** Of the images of layers, from the lowest layer upwards. */
  readonly layers: readonly (readonly InlineEntry[])[];
  /** What is wrong with annotations, which are then left out. */
  readonly faults: readonly string[];
}

const Annotated = v.object({ annotations: v.nullish(v.record(v.string(), v.unknown())) });
const Manifest = v.object({ ...Annotated.entries, config: Annotated, layers: v.array(Annotated) });

/** Reads what a manifest names. Throws ErrnoError EUCLEAN for bytes of another form. @param what names it, for messages */
export function readInline(bytes: Uint8Array, what: string): Inline {
  const manifest = checked(Manifest, parse(bytes, what), what);
  const faults: string[] = [];
  const read = (roles: readonly InlineRole[], { annotations }: v.InferOutput<typeof Annotated>): InlineEntry[] =>
    roles.flatMap(role => entriesOf(role, annotations ?? {}, fault => void faults.push(`${what}: ${fault}`)));
  const entries = [...read(['config'], manifest.config), ...read(OWN_ROLES, manifest)];
  return { entries, layers: manifest.layers.map(layer => read(['layer'], layer)), faults };
}

function entriesOf(
  role: InlineRole,
  annotations: Readonly<Record<string, unknown>>,
  refuse: (fault: string) => void,
): InlineEntry[] {
  return (Object.keys(ALGORITHMS) as Algorithm[]).flatMap(algorithm => {
    const key = annotationOf(role, algorithm);
    const { [key]: digest, [`${key}.sig`]: text } = annotations;
    if (digest === undefined) return [];
    if (typeof digest !== 'string' || !/^[0-9a-f]+$/.test(digest) || algorithmOfHex(digest) !== algorithm) {
      refuse(`annotation ${key}: no digest of ${algorithm} in hex`);
      return [];
    }
    const signature = text === undefined ? undefined : decode(text);
    if (signature === undefined && text !== undefined)
      refuse(`annotation ${key}.sig: no base64 of up to ${SIGNATURE_BYTES_MAX} bytes`);
    return [{ role, digest, signature }];
  });
}

const BASE64_MAX = 4 * Math.ceil(SIGNATURE_BYTES_MAX / 3);

function decode(text: unknown): Uint8Array | undefined {
  if (typeof text !== 'string' || text.length > BASE64_MAX) return undefined;
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text && bytes.length <= SIGNATURE_BYTES_MAX ? bytes : undefined;
}

const Whole = v.looseObject({
  annotations: v.nullish(v.looseObject({})),
  config: v.looseObject({ annotations: v.nullish(v.looseObject({})) }),
});

/** The bytes of a manifest that has these entries, and else what it had. Throws ErrnoError EUCLEAN. */
export function writeInline(bytes: Uint8Array, entries: readonly InlineEntry[], what: string): Uint8Array {
  const manifest = parse(bytes, what) as v.InferOutput<typeof Whole>;
  checked(Whole, manifest, what); // what comes of the check has another order
  const annotationsFor = (isConfig: boolean): Record<string, string> =>
    Object.fromEntries(entries.filter(({ role }) => (role === 'config') === isConfig).flatMap(annotationsOf));
  return Buffer.from(
    JSON.stringify({
      ...manifest,
      config: { ...manifest.config, annotations: { ...manifest.config.annotations, ...annotationsFor(true) } },
      annotations: { ...manifest.annotations, ...annotationsFor(false) },
    }),
  );
}

function annotationsOf({ role, digest, signature }: InlineEntry): [key: string, value: string][] {
  const key = annotationOf(role, algorithmOfHex(digest) as Algorithm);
  const sealed: [string, string][] = signature ? [[`${key}.sig`, Buffer.from(signature).toString('base64')]] : [];
  return [[key, digest], ...sealed];
}
