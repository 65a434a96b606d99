/** The media types of configurations and layers that are understood. Sources: OCI image-spec, media-types.md; Docker's schema 2. */
import { EINVAL, ErrnoError } from '../sys/errno.ts';
import type { Descriptor } from './documents.ts';

const CONFIGS: readonly string[] = [
  'application/vnd.oci.image.config.v1+json',
  'application/vnd.docker.container.image.v1+json',
];
/** How a layer is compressed is known from its first bytes. */
const LAYER =
  /^application\/vnd\.(oci\.image\.layer\.(nondistributable\.)?v1\.tar(\+gzip|\+zstd)?|docker\.image\.rootfs\.(foreign\.)?diff\.tar(\.gzip|\.zstd)?)$/;

/** Whether a configuration is that of an image of a container. */
export const isImageConfig = ({ mediaType }: Descriptor): boolean => !mediaType || CONFIGS.includes(mediaType);

/** Refuses the manifest of something that is not an image of a container. @param shown the path of the place */
export function checkConfigType(config: Descriptor, shown: string): void {
  if (!isImageConfig(config))
    throw new ErrnoError(EINVAL, `${shown}: not an image of a container: its configuration is ${config.mediaType}`);
}

/** Refuses a layer that is no tar archive, such as an encrypted one. @param shown the path of the layer */
export function checkLayerType({ mediaType }: Descriptor, shown: string): void {
  if (mediaType && !LAYER.test(mediaType))
    throw new ErrnoError(EINVAL, `${shown}: a layer of type ${mediaType} is not supported`);
}
