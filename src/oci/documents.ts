/**
 * The JSON documents of images, checked when they are read. Keys that are not named here are ignored.
 * Sources: OCI image-spec v1.1; Docker image manifest v2, schema 2; the archive of `docker save`.
 */
import * as v from 'valibot';
import { ErrnoError, EUCLEAN } from '../sys/errno.ts';

/** The largest document that is read. */
export const DOCUMENT_BYTES_MAX = 1 << 23;

const Digest = v.pipe(
  v.string(),
  v.regex(/^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/, 'is no digest sha256:HEX or sha512:HEX'),
);
const Size = v.pipe(v.number(), v.safeInteger('is no size'), v.minValue(0, 'is no size'));
const Annotations = v.nullish(v.record(v.string(), v.string()));

export const Descriptor = v.object({
  mediaType: v.nullish(v.string()),
  artifactType: v.nullish(v.string()),
  digest: Digest,
  size: Size,
  annotations: Annotations,
  platform: v.nullish(v.object({ os: v.string(), architecture: v.string(), variant: v.optional(v.string()) })),
});
/** What leads to a blob: its digest and its size. */
export type Descriptor = v.InferOutput<typeof Descriptor>;

const Index = v.object({ manifests: v.array(Descriptor) });
const Manifest = v.object({ config: Descriptor, layers: v.array(Descriptor) });
export type Manifest = v.InferOutput<typeof Manifest>;
/** A list of images, or one image. */
export type IndexOrManifest =
  | { readonly manifests: readonly Descriptor[] }
  | (Manifest & { readonly manifests?: undefined });

const Config = v.object({
  os: v.nullish(v.string()),
  architecture: v.nullish(v.string()),
  variant: v.nullish(v.string()),
  rootfs: v.object({ diff_ids: v.array(Digest) }),
});
/** The part of an image's configuration that its files depend on: the digests of its uncompressed layers. */
export type Config = v.InferOutput<typeof Config>;

const DockerArchive = v.array(
  v.object({ Config: v.string(), RepoTags: v.nullish(v.array(v.string())), Layers: v.array(v.string()) }),
);
/** The images of an archive of `docker save`, with the paths of their files in the archive. */
export type DockerArchive = v.InferOutput<typeof DockerArchive>;

const Kind = v.object({ schemaVersion: v.optional(v.number()), manifests: v.optional(v.unknown()) });

/**
 * Reads an index or a manifest; the media type is often missing, so that the keys decide. Throws ErrnoError EUCLEAN.
 * @param what the name of the document, for messages
 */
export function readIndexOrManifest(bytes: Uint8Array, what: string): IndexOrManifest {
  const json = parse(bytes, what);
  const { schemaVersion, manifests } = checked(Kind, json, what);
  if (schemaVersion !== undefined && schemaVersion !== 2)
    throw new ErrnoError(EUCLEAN, `${what}: schema ${schemaVersion} is not supported; schema 2 is`);
  return manifests === undefined ? checked(Manifest, json, what) : checked(Index, json, what);
}

/** Reads a configuration. Throws ErrnoError EUCLEAN. */
export const readConfig = (bytes: Uint8Array, what: string): Config => checked(Config, parse(bytes, what), what);

/** Reads the manifest.json of an archive of `docker save`. Throws ErrnoError EUCLEAN. */
export const readDockerArchive = (bytes: Uint8Array, what: string): DockerArchive =>
  checked(DockerArchive, parse(bytes, what), what);

/** Parses JSON. Throws ErrnoError EUCLEAN. */
export function parse(bytes: Uint8Array, what: string): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw new ErrnoError(EUCLEAN, `${what}: no JSON in UTF-8`);
  }
}

/** Checks a value by a schema. Throws ErrnoError EUCLEAN with the place of the first fault. */
export function checked<T extends v.GenericSchema>(schema: T, value: unknown, what: string): v.InferOutput<T> {
  const { success, output, issues } = v.safeParse(schema, value, { abortEarly: true });
  if (success) return output;
  const [issue] = issues;
  throw new ErrnoError(EUCLEAN, `${what}: ${faultText(issue)}`);
}

/** The place of a fault, and what is wrong with it. */
export function faultText(issue: v.BaseIssue<unknown>): string {
  const { message, expected, received } = issue;
  const isKey = message.startsWith('Invalid key');
  const why =
    isKey && received === 'undefined' ? 'is missing' : isKey && expected === 'never' ? 'is not known' : message;
  const place = v.getDotPath(issue);
  return place === null ? why : `${place}: ${why}`;
}
