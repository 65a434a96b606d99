/** Lines that are printed all, or not at all if an error ends them. */
import { type ByteString, byteStringOf, putByteString } from '../sys/bytes.ts';

const PIECE_BYTES = 1 << 16;
const NEWLINE = 0x0a;

/** Takes all lines, none of which has a newline. @returns pieces of the text. Throws as `lines` does. */
export function heldText(lines: Iterable<ByteString>): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  let piece = new Uint8Array(PIECE_BYTES);
  let end = 0;
  for (const line of lines) {
    if (end + line.length >= piece.length) {
      pieces.push(piece.subarray(0, end));
      piece = new Uint8Array(Math.max(PIECE_BYTES, line.length + 1));
      end = 0;
    }
    putByteString(piece, end, line);
    end += line.length;
    piece[end++] = NEWLINE;
  }
  return [...pieces, piece.subarray(0, end)];
}

/** The same lines again. As strings they would take several times the memory in between. */
export function* linesIn(pieces: readonly Uint8Array[]): Generator<ByteString> {
  for (const piece of pieces) yield* byteStringOf(piece).split('\n').slice(0, -1);
}
