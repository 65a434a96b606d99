/** What the configuration of an image says about running it. Source: OCI image-spec, config.md. */
import * as v from 'valibot';
import { checked, parse } from '../documents.ts';

const Text = v.nullish(v.string());
const Words = v.nullish(v.array(v.string()));
const Keys = v.nullish(v.record(v.string(), v.unknown()));

const ImageConfig = v.object({
  created: Text,
  author: Text,
  os: Text,
  architecture: Text,
  variant: Text,
  rootfs: v.object({ diff_ids: v.array(v.string()) }),
  config: v.nullish(
    v.object({
      User: Text,
      WorkingDir: Text,
      Entrypoint: Words,
      Cmd: Words,
      Env: Words,
      ExposedPorts: Keys,
      Volumes: Keys,
      StopSignal: Text,
      Labels: v.nullish(v.record(v.string(), v.string())),
    }),
  ),
});
export type ImageConfig = v.InferOutput<typeof ImageConfig>;

/** Reads a configuration. Throws ErrnoError EUCLEAN. */
export const readImageConfig = (bytes: Uint8Array, what: string): ImageConfig =>
  checked(ImageConfig, parse(bytes, what), what);

const Annotated = v.object({ annotations: v.nullish(v.record(v.string(), v.string())) });

/** The annotations of a manifest; undefined if it has none. Throws ErrnoError EUCLEAN. */
export const readAnnotations = (bytes: Uint8Array, what: string): Readonly<Record<string, string>> | undefined =>
  checked(Annotated, parse(bytes, what), what).annotations ?? undefined;

/** OS/ARCH[/VARIANT]; undefined if the configuration does not say it. */
export function platformOf({ os, architecture, variant }: ImageConfig): string | undefined {
  if (!os || !architecture) return undefined;
  return [os, architecture, ...(variant ? [variant] : [])].join('/');
}
