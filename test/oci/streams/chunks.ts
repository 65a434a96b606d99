/** Chunks of splitstreams: pieces of any size give the same parts, and what does not make up the file is refused. */
import t from 'tap';
import { ChunkParser } from '../../../src/oci/streams/chunks.ts';
import { EUCLEAN } from '../../../src/sys/errno.ts';

const inline = (text: string, bytes = BigInt(text.length)): Buffer => {
  const number = Buffer.alloc(8);
  number.writeBigInt64LE(-bytes);
  return Buffer.concat([number, Buffer.from(text)]);
};
const object = (index: bigint): Buffer => {
  const number = Buffer.alloc(8);
  number.writeBigInt64LE(index);
  return number;
};

/** The parts of a file with two objects of 100 bytes and of none. */
function partsOf(chunks: Buffer, fileBytes: number, pieceBytes = chunks.length): string {
  let parts = '';
  const visitor = {
    inline: (bytes: Uint8Array) => {
      parts += Buffer.from(bytes);
    },
    object: (index: number) => {
      parts += `<${index}>`;
      return index === 0 ? 100 : 0;
    },
  };
  const parser = new ChunkParser(2, fileBytes, visitor, 'stream');
  for (let at = 0; at < chunks.length; at += pieceBytes) parser.push(chunks.subarray(at, at + pieceBytes));
  parser.finish();
  return parts;
}

const SOUND = Buffer.concat([inline('hello'), object(0n), object(1n), inline('a'), inline('bc'), object(0n)]);

for (const size of [1, 3, 8, 13, SOUND.length])
  t.equal(partsOf(SOUND, 208, size), 'hello<0><1>abc<0>', `pieces of ${size} bytes`);
t.equal(partsOf(Buffer.alloc(0), 0), '', 'no chunks');

for (const [rule, chunks, fileBytes, message] of [
  ['an object that the stream has', [inline('ab'), object(2n)], 102, 'byte 2: object 2 of 2'],
  ['the largest number', [object(2n ** 63n - 1n)], 0, 'byte 0: object 9223372036854776000 of 2'],
  [
    'the smallest number',
    [inline('', 2n ** 63n)],
    5,
    'byte 0: a chunk of 9223372036854776000 bytes, where the file has 5',
  ],
  ['more bytes than the file', [inline('abc')], 2, 'byte 0: a chunk of 3 bytes, where the file has 2'],
  [
    'an object beyond the file',
    [inline('abc'), object(0n)],
    102,
    'byte 3: a chunk of 100 bytes, where the file has 99',
  ],
  ['fewer bytes than the file', [inline('abc')], 4, 'byte 3: the file ends, but it should have 4 bytes'],
  ['a chunk that is cut off', [inline('abc', 4n)], 4, 'byte 3: the chunks are cut off'],
  ['a number that is cut off', [inline('abc'), Buffer.alloc(7)], 3, 'byte 3: the chunks are cut off'],
] as const)
  t.throws(() => partsOf(Buffer.concat(chunks), fileBytes), { errno: EUCLEAN, message: `stream: ${message}` }, rule);
t.end();
