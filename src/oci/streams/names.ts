/** Names of splitstreams in a repository, and names that they have for others. Source: composefs-rs, crates/composefs-oci/src. */
import type { ByteString } from '../../sys/bytes.ts';

export const layerStream = (diffId: string): ByteString => `oci-layer-${diffId}`;
export const configStream = (digest: string): ByteString => `oci-config-${digest}`;
export const manifestStream = (digest: string): ByteString => `oci-manifest-${digest}`;
/** That of a blob other than an archive, such as a signature. */
export const blobStream = (digest: string): ByteString => `oci-blob-${digest}`;

/** The name that a configuration's stream has for the image of formats 0 and 1. All names for images begin as the other one does. */
export const IMAGE = 'composefs.image.v1';
/** The same for an image to boot from. */
export const BOOT_IMAGE = 'composefs.image.boot.v1';
export const IMAGES = 'composefs.image';
/** The name that a manifest's stream has for the stream of the configuration. */
export const configName = (digest: string): ByteString => `config:${digest}`;

/**
 * The directory of artifacts that belong to images, such as signatures, below that of the streams: SUBJECT/ARTIFACT, both digests of
 * manifests. They stay for as long as their subject does. Source: composefs-rs, crates/composefs-oci/src/oci_image.rs, add_referrer.
 */
export const REFERRERS = 'refs/oci-referrers';
/** The directory of tags, below that of the streams. */
export const TAGS = 'refs/oci';
/** A tag as a file name. */
export const encodeTag = (name: ByteString): ByteString => name.replaceAll('%', '%25').replaceAll('/', '%2F');
