/**
 * Hashes whole blocks, by the fastest available of three implementations: OpenSSL through the addon; OpenSSL through node:crypto,
 * if the addon does not find it; @noble/hashes, if Node has no OpenSSL.
 *
 * On blocks of 4 KiB, node:crypto has three quarters of the speed of the addon, because it is called for each block and creates
 * an object. @noble/hashes has a tenth. Source: scripts/bench/verity-digest.ts.
 */
import { createRequire } from 'node:module';
import { EINVAL, ENOSYS, ErrnoError, must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';
import { ALGORITHMS, type Parameters } from './algorithms.ts';

/** Hashes blocks by the parameters for which it was made. */
export interface BlockHasher {
  /** The bytes of one hash. */
  readonly digestBytes: number;
  /**
   * Hashes each block of `blocks`, after the padded salt; the last block is padded with zeros. The hashes are written one after
   * the other from `out[outAt]` on. @returns their number
   * Throws ErrnoError EINVAL if they do not fit into `out`.
   */
  hashBlocks(blocks: Uint8Array, out: Uint8Array, outAt: number): number;
  /** The hash of 1 to 65,536 bytes as they are, without the salt. */
  hashBytes(bytes: Uint8Array): Uint8Array;
}

declare global {
  interface ImportMeta {
    /** True in a bundle: scripts/bundle.ts defines it. */
    readonly bundled?: true;
  }
}

type Sha2 = typeof import('@noble/hashes/sha2.js');
export type Implementation = 'addon' | 'crypto' | 'noble';

/**
 * Chooses the implementation.
 * @param addon the reply of native.hashBlocks
 * @param openssl the version of OpenSSL in Node; undefined if it has none
 */
export function chooseImplementation(addon: number, openssl: string | undefined): Implementation {
  if (addon !== -ENOSYS) return 'addon';
  return openssl === undefined ? 'noble' : 'crypto';
}

const none = new Uint8Array(0);
const chosen = chooseImplementation(native.hashBlocks(1, none, none, 1, none), process.versions.openssl);
/** Loaded only if it is used, because that takes 6 ms. A bundle cannot wait, and has a bundle of the package beside it. */
const sha2: Sha2 | undefined =
  chosen !== 'noble'
    ? undefined
    : import.meta.bundled
      ? createRequire(import.meta.filename)('./sha2.cjs')
      : await import('@noble/hashes/sha2.js');
/** The packages that every thread loads if it hashes. */
export const hashPackages: readonly string[] = sha2 ? ['@noble/hashes/sha2.js'] : [];

/** All hashers by parameters. A hasher keeps no state between calls, so all users of the same parameters share one. */
const hashers = new WeakMap<Parameters, BlockHasher>();

/** A hasher of the chosen implementation. Throws ErrnoError EINVAL for parameters that fs-verity does not have. */
export function blockHasher(parameters: Parameters): BlockHasher {
  const known = hashers.get(parameters);
  if (known) return known;
  const hasher = newHasher(parameters);
  hashers.set(parameters, hasher);
  return hasher;
}

function newHasher(parameters: Parameters): BlockHasher {
  if (sha2) return nobleHasher(parameters, sha2);
  return chosen === 'addon' ? addonHasher(parameters) : cryptoHasher(parameters);
}

/** A hasher that passes all blocks of a call to the addon. Throws as `blockHasher` does. */
export function addonHasher(parameters: Parameters): BlockHasher {
  const { blockBytes } = parameters;
  const { number, digestBytes } = ALGORITHMS[parameters.algorithm];
  const salt = paddedSalt(parameters);
  return {
    digestBytes,
    hashBlocks: (blocks, out, outAt) =>
      must(native.hashBlocks(number, salt, blocks, blockBytes, out.subarray(outAt)), 'hashBlocks'),
    hashBytes: bytes => {
      const out = new Uint8Array(digestBytes);
      must(native.hashBlocks(number, none, bytes, bytes.length, out), 'hashBlocks');
      return out;
    },
  };
}

/** A hasher that calls node:crypto, which must exist, for each block. Throws as `blockHasher` does. */
export function cryptoHasher(parameters: Parameters): BlockHasher {
  const { hash } = process.getBuiltinModule('node:crypto');
  return new SingleHasher(parameters, bytes => hash(parameters.algorithm, bytes, 'buffer'));
}

/** A hasher that calls @noble/hashes for each block. Throws as `blockHasher` does. */
export function nobleHasher(parameters: Parameters, { sha256, sha512 }: Sha2): BlockHasher {
  return new SingleHasher(parameters, parameters.algorithm === 'sha256' ? sha256 : sha512);
}

/** Hashes blocks one by one with a function that hashes bytes. */
class SingleHasher implements BlockHasher {
  readonly digestBytes: number;
  readonly hashBytes: (bytes: Uint8Array) => Uint8Array;
  private readonly blockBytes: number;
  private readonly saltBytes: number;
  /** The padded salt, followed by room for a block. */
  private readonly salted: Uint8Array;

  constructor(parameters: Parameters, hashBytes: (bytes: Uint8Array) => Uint8Array) {
    const salt = paddedSalt(parameters);
    this.digestBytes = ALGORITHMS[parameters.algorithm].digestBytes;
    this.hashBytes = hashBytes;
    this.blockBytes = parameters.blockBytes;
    this.saltBytes = salt.length;
    this.salted = new Uint8Array(salt.length + parameters.blockBytes);
    this.salted.set(salt);
  }

  hashBlocks(blocks: Uint8Array, out: Uint8Array, outAt: number): number {
    const count = Math.ceil(blocks.length / this.blockBytes);
    if (outAt + count * this.digestBytes > out.length) throw new ErrnoError(EINVAL, `no room for ${count} hashes`);
    for (let i = 0; i < count; i++) {
      const block = blocks.subarray(i * this.blockBytes, (i + 1) * this.blockBytes);
      out.set(this.hashBytes(this.whole(block)), outAt + i * this.digestBytes);
    }
    return count;
  }

  /** The bytes to hash for a block: the padded salt, the block, and zeros if the block is short. */
  private whole(block: Uint8Array): Uint8Array {
    if (this.saltBytes === 0 && block.length === this.blockBytes) return block;
    this.salted.set(block, this.saltBytes);
    return this.salted.fill(0, this.saltBytes + block.length);
  }
}

/** The salt, padded with zeros to a whole block of the hash function. Throws as `blockHasher` does. */
function paddedSalt({ algorithm, blockBytes, salt }: Parameters): Uint8Array {
  if (!Number.isInteger(Math.log2(blockBytes)) || blockBytes < 1024 || blockBytes > BLOCK_BYTES_MAX)
    throw new ErrnoError(EINVAL, `fs-verity has no blocks of ${blockBytes} bytes`);
  if (salt.length > 32) throw new ErrnoError(EINVAL, `an fs-verity salt has at most 32 bytes, not ${salt.length}`);
  if (salt.length === 0) return none;
  const padded = new Uint8Array(ALGORITHMS[algorithm].padBytes);
  padded.set(salt);
  return padded;
}

/** The largest block of fs-verity. */
export const BLOCK_BYTES_MAX = 65_536;
