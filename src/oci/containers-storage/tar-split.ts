/**
 * Puts the archive of a layer together again: what is not data of files is in a file of tar-split, one JSON object a line, and the data is
 * in the files below a directory.
 *
 * ```
 * {"type": 2, "payload": BASE64, "position": 0}                       headers and padding
 * {"type": 1, "name": "usr/a", "size": 5, "payload": CRC, …}          the data of a file; name_raw in base64 for names that are no UTF-8
 * ```
 * Source: github.com/vbatts/tar-split, tar/storage.
 */
import * as v from 'valibot';
import { type ByteString, byteStringFromText, byteStringOf, printable } from '../../sys/bytes.ts';
import { EFBIG, ErrnoError, EUCLEAN } from '../../sys/errno.ts';
import { checked, parse } from '../documents.ts';
import { openRegular, readAt } from '../files.ts';

/** The longest line: extensions of an entry have 1 MiB at most, as the padding at the end of an archive has in practice. */
const LINE_BYTES_MAX = 1 << 24;
const READ_BYTES = 1 << 18;
const NEWLINE = 0x0a;
const FILE = 1;
const SEGMENT = 2;

const Base64 = v.pipe(v.string(), v.base64('is no base64'));
const Line = v.object({
  type: v.picklist([FILE, SEGMENT], 'is neither 1 nor 2'),
  name: v.nullish(v.string()),
  name_raw: v.nullish(v.string()),
  size: v.nullish(v.pipe(v.number(), v.safeInteger('is no size'), v.minValue(0, 'is no size'))),
  payload: v.nullish(v.string()),
});

/** The directory with the files of a layer. */
export interface LayerFiles {
  readonly fd: number;
  readonly shown: string;
}

/**
 * The archive, piece by piece. Throws ErrnoError with the path of what is missing or damaged. The archive's digest is not checked here.
 * @param lines the bytes of the file of tar-split, decompressed
 * @param what its path, for messages
 */
export async function* assemble(
  lines: AsyncIterable<Uint8Array>,
  files: LayerFiles,
  what: string,
): AsyncGenerator<Uint8Array> {
  let number = 0;
  for await (const line of splitLines(lines, what)) {
    const place = `${what}: line ${++number}`;
    const { type, name, name_raw, size, payload } = checked(Line, parse(line, place), place);
    if (type === SEGMENT) yield Buffer.from(checked(Base64, payload ?? '', place), 'base64');
    else if (size) yield* dataOf(files, name_raw ? rawName(name_raw) : byteStringFromText(name ?? ''), size);
  }
}

function rawName(text: string): ByteString {
  const bytes = Buffer.from(text, 'base64');
  return byteStringOf(bytes, 0, bytes.length);
}

/** The data of a file. Names are those of the archive; a symlink on the way leads to where it leads below the directory. */
function* dataOf({ fd, shown: directory }: LayerFiles, name: ByteString, sizeBytes: number): Generator<Uint8Array> {
  const shown = `${directory}/${printable(name)}`;
  const file = openRegular(fd, name, shown, RESOLVE_IN_ROOT);
  try {
    if (file.sizeBytes !== sizeBytes)
      throw new ErrnoError(EUCLEAN, `${shown}: ${file.sizeBytes} bytes, but the layer has ${sizeBytes}`);
    for (let at = 0; at < sizeBytes; at += READ_BYTES)
      yield readAt(file, at, Math.min(READ_BYTES, sizeBytes - at), shown);
  } finally {
    file.close();
  }
}
/** Source: linux/openat2.h */
const RESOLVE_IN_ROOT = 0x10;

async function* splitLines(pieces: AsyncIterable<Uint8Array>, what: string): AsyncGenerator<Uint8Array> {
  let start: Uint8Array = new Uint8Array();
  for await (const piece of pieces) {
    let from = 0;
    for (let end = piece.indexOf(NEWLINE); end >= 0; end = piece.indexOf(NEWLINE, from)) {
      yield Buffer.concat([start, piece.subarray(from, end)]);
      start = new Uint8Array();
      from = end + 1;
    }
    if (start.length + piece.length - from > LINE_BYTES_MAX)
      throw new ErrnoError(EFBIG, `${what}: a line of more than ${LINE_BYTES_MAX} bytes`);
    start = Buffer.concat([start, piece.subarray(from)]);
  }
  if (start.length > 0) yield start;
}
