/**
 * Walks the frames of zstd without decoding them, for a decoder that trusts its input: it allocates the window that a frame asks
 * for, and gives out all that a piece of input decodes to at once.
 * Source: RFC 8878, "Zstandard Frames" and "Blocks".
 */
import { byteStringOf, getU64 } from '../sys/bytes.ts';
import { EFBIG, ErrnoError, EUCLEAN } from '../sys/errno.ts';

const MAGIC = '\x28\xb5\x2f\xfd';
/** The first byte of these magics is 0x50 to 0x5f. */
const SKIPPABLE = '\x2a\x4d\x18';
const MAGIC_BYTES = 4;
const SKIP_SIZE_BYTES = 4;
const BLOCK_HEADER_BYTES = 3;
const CHECKSUM_BYTES = 4;
/** The bytes of Dictionary_ID and of Frame_Content_Size, by the two bits of the descriptor that are about them. */
const DICTIONARY_BYTES = [0, 1, 2, 4] as const;
const CONTENT_SIZE_BYTES = [0, 2, 4, 8] as const;
const BLOCK_RLE = 1;
const BLOCK_RESERVED = 3;
/** The largest window, as for zstd(1) and Node.js: ZSTD_WINDOWLOG_LIMIT_DEFAULT. */
const WINDOW_BYTES_MAX = 1 << 27;

/** What the next bytes are. Those of 'block' and 'skip' are passed through; the others are collected until they are complete. */
type State = 'magic' | 'skip size' | 'skip' | 'descriptor' | 'header' | 'block header' | 'block' | 'checksum';
/** The most bytes that are collected: a header has 13. */
const PART_BYTES_MAX = 16;

/** Takes pieces of a file of zstd, and gives them back without the frames that hold no data, cut after each block. */
export class ZstdFrames {
  readonly #what: string;
  #state: State = 'magic';
  readonly #part = new Uint8Array(PART_BYTES_MAX);
  #have = 0;
  #need = MAGIC_BYTES;
  #descriptor = 0;
  #isLastBlock = false;

  /** @param what names the file, for messages */
  constructor(what: string) {
    this.#what = what;
  }

  /** Throws ErrnoError: EUCLEAN for bytes that are no frame, EFBIG for a window beyond the limit. */
  *split(chunk: Uint8Array): Generator<Uint8Array> {
    for (let at = 0; at < chunk.length; ) {
      const count = Math.min(this.#need - this.#have, chunk.length - at);
      const piece = chunk.subarray(at, at + count);
      at += count;
      if (this.#state === 'block' || this.#state === 'skip') {
        if (this.#state === 'block') yield piece;
        this.#have += count;
        if (this.#have === this.#need) this.#endBulk();
        continue;
      }
      this.#part.set(piece, this.#have);
      this.#have += count;
      if (this.#have < this.#need) continue;
      const part = this.#part.slice(0, this.#need);
      if (this.#take(part)) yield part;
    }
  }

  #enter(state: State, need: number): void {
    this.#state = state;
    this.#need = need;
    this.#have = 0;
  }

  #endBulk(): void {
    if (this.#state === 'block') this.#endBlock();
    else this.#enter('magic', MAGIC_BYTES);
  }

  #endBlock(): void {
    if (!this.#isLastBlock) this.#enter('block header', BLOCK_HEADER_BYTES);
    else if (this.#descriptor & 4) this.#enter('checksum', CHECKSUM_BYTES);
    else this.#enter('magic', MAGIC_BYTES);
  }

  /** Reads a complete part. @returns whether the decoder needs it */
  #take(part: Uint8Array): boolean {
    const view = new DataView(part.buffer);
    switch (this.#state) {
      case 'magic':
        return this.#takeMagic(byteStringOf(part));
      case 'skip size':
        if (view.getUint32(0, true) > 0) this.#enter('skip', view.getUint32(0, true));
        else this.#enter('magic', MAGIC_BYTES);
        return false;
      case 'descriptor':
        this.#descriptor = view.getUint8(0);
        this.#enter('header', (this.#isSingle ? 0 : 1) + this.#dictionaryBytes + this.#contentSizeBytes);
        return true;
      case 'header':
        this.#checkWindow(view);
        this.#enter('block header', BLOCK_HEADER_BYTES);
        return true;
      case 'block header':
        this.#takeBlockHeader(view.getUint16(0, true) | (view.getUint8(2) << 16));
        return true;
      default: // a checksum
        this.#enter('magic', MAGIC_BYTES);
        return true;
    }
  }

  #takeMagic(magic: string): boolean {
    if (magic === MAGIC) this.#enter('descriptor', 1);
    else if (magic.endsWith(SKIPPABLE) && (magic.charCodeAt(0) & 0xf0) === 0x50)
      this.#enter('skip size', SKIP_SIZE_BYTES);
    else throw new ErrnoError(EUCLEAN, `${this.#what}: bytes between frames`);
    return magic === MAGIC;
  }

  #takeBlockHeader(header: number): void {
    const type = (header >> 1) & 3;
    const size = header >> 3;
    if (type === BLOCK_RESERVED) throw new ErrnoError(EUCLEAN, `${this.#what}: a block of an unknown type`);
    this.#isLastBlock = (header & 1) !== 0;
    if (type !== BLOCK_RLE && size === 0) this.#endBlock();
    else this.#enter('block', type === BLOCK_RLE ? 1 : size);
  }

  /** Whether the frame has no window of its own, but that of its whole content. */
  get #isSingle(): boolean {
    return (this.#descriptor & 0x20) !== 0;
  }

  get #dictionaryBytes(): number {
    return DICTIONARY_BYTES[this.#descriptor & 3] as number;
  }

  get #contentSizeBytes(): number {
    const bytes = CONTENT_SIZE_BYTES[this.#descriptor >> 6] as number;
    return bytes === 0 && this.#isSingle ? 1 : bytes;
  }

  #checkWindow(view: DataView): void {
    const first = view.getUint8(0);
    const bytes = this.#isSingle ? this.#contentSize(view) : 2 ** (10 + (first >> 3)) * (1 + (first & 7) / 8);
    if (bytes > WINDOW_BYTES_MAX)
      throw new ErrnoError(EFBIG, `${this.#what}: a window of ${bytes} bytes; ${WINDOW_BYTES_MAX} are allowed`);
  }

  #contentSize(view: DataView): number {
    const at = this.#dictionaryBytes;
    switch (this.#contentSizeBytes) {
      case 1:
        return view.getUint8(at);
      case 2:
        return view.getUint16(at, true) + 256;
      case 4:
        return view.getUint32(at, true);
      default:
        return getU64(view, at);
    }
  }
}
