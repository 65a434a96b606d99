/**
 * Damaged splitstreams. A stream is either refused with its path, or its parts make up a file of the size that it says, and its
 * names lead to digests that it has. The parts are the same in whatever pieces the bytes come.
 */
import { ftruncateSync, mkdtempSync, openSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ChunkParser } from '../../src/oci/streams/chunks.ts';
import { Header, Info, MAGIC, OldHeader, Section } from '../../src/oci/streams/format.ts';
import { decodeSection, readNames, readReferences } from '../../src/oci/streams/references.ts';
import { ZstdEncoder } from '../../src/oci/streams/zstd-encoder.ts';
import { attempt, EFBIG, ErrnoError, EUCLEAN } from '../../src/sys/errno.ts';
import { damageBytes, damageField, reshape } from './mutate.ts';
import { demand, type Random, type Target } from './target.ts';

/** The size of every object. */
const OBJECT_BYTES = 10;
const DIGEST_BYTES = 32;
const NUMBERS = [-1n, -5n, -(2n ** 53n), -(2n ** 63n), 3n, 2n ** 53n, 2n ** 63n - 1n];
const NAMES = ['0:a', '1:config:sha256:0', '2:', ':', '', '00:b', '4294967296:c', '-1:d', '0:\xff', 'x'];

function make(random: Random): Uint8Array {
  const [streams, objects] = [random.below(4), random.below(4)];
  let fileBytes = 0;
  const chunks = Array.from({ length: random.below(8) }, () => {
    const isInline = random.oneIn(2) || objects === 0;
    const bytes = isInline ? 1 + random.below(random.oneIn(4) ? 5000 : 20) : OBJECT_BYTES;
    fileBytes += bytes;
    const value = isInline ? -bytes : random.below(objects);
    return chunk(random.oneIn(30) ? random.pick(NUMBERS) : BigInt(value), isInline ? bytes : 0);
  });
  const names = Array.from({ length: random.below(4) }, () =>
    random.oneIn(4) ? random.pick(NAMES) : `${random.below(streams + 1)}:name`,
  );
  const text = Buffer.from(names.map(name => `${name}\0`).join(''), 'latin1');
  const sections = [digests(streams), digests(objects), compressed([text], random), compressed(chunks, random)];
  let input: Uint8Array = streamOf(sections, random.oneIn(20) ? random.below(100) : fileBytes, random.oneIn(4));
  const places = [
    { at: 0, layout: Header },
    { at: Header.SIZE, layout: Info },
  ];
  if (random.oneIn(4)) damageField(input, places, random);
  if (random.oneIn(4)) damageBytes(input, random);
  if (random.oneIn(8)) input = reshape(input, compressed(chunks, random), random.pick([1, 8, 32]), random);
  return input;
}

function chunk(number: bigint, bytes: number): Buffer {
  const result = Buffer.alloc(8 + bytes, 'x');
  result.writeBigInt64LE(number);
  return result;
}

const digests = (count: number): Buffer =>
  Buffer.concat(Array.from({ length: count }, (_, i) => Buffer.alloc(DIGEST_BYTES, i)));

/** Frames of zstd, at times two in a row, or none. */
function compressed(parts: readonly Uint8Array[], random: Random): Buffer {
  if (parts.length === 0 && random.oneIn(2)) return Buffer.alloc(0);
  const out: Buffer[] = [];
  const cut = random.oneIn(4) ? random.below(parts.length + 1) : parts.length;
  for (const frame of [parts.slice(0, cut), parts.slice(cut)]) {
    const encoder = new ZstdEncoder(bytes => out.push(Buffer.from(bytes)));
    for (const part of frame) encoder.write(part);
    encoder.finish();
  }
  return Buffer.concat(out);
}

/** Puts sections together: digests of streams and of objects, names, and chunks. */
function streamOf(sections: readonly Buffer[], fileBytes: number, isOld: boolean): Uint8Array {
  const start = Buffer.alloc(Header.SIZE + Info.SIZE);
  const header = isOld ? OldHeader : Header;
  start.write(MAGIC, header.magic, 'latin1');
  start[header.algorithm] = 1;
  start[header.blockBits] = 12;
  let at = Header.SIZE;
  const put = (place: number, bytes: number): void => {
    start.writeBigUInt64LE(BigInt(at), place + Section.start);
    at += bytes;
    start.writeBigUInt64LE(BigInt(at), place + Section.end);
  };
  put(header.info, Info.SIZE);
  const places = [Info.streams, Info.objects, Info.names, Info.chunks];
  for (const [i, { length }] of sections.entries()) put(Header.SIZE + (places[i] as number), length);
  start.writeBigUInt64LE(BigInt(fileBytes), Header.SIZE + Info.fileBytes);
  return new Uint8Array(Buffer.concat([start, ...sections]));
}

let opened: number | undefined;

/** A file that has the input. */
function fileOf(input: Uint8Array): { fd: number; at: number; sizeBytes: number; close: () => void } {
  opened ??= openSync(join(mkdtempSync(join(tmpdir(), 'lowerdata-fuzz-')), 'stream'), 'w+');
  ftruncateSync(opened, 0);
  writeSync(opened, input, 0, input.length, 0);
  return { fd: opened, at: 0, sizeBytes: input.length, close: () => {} };
}

async function check(input: Uint8Array): Promise<void> {
  try {
    await read(input);
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error;
    demand(error.errno === EUCLEAN || error.errno === EFBIG, `refused with ${error.name}`);
    demand(/^stream(: zstd)?: ./s.test(error.message), `says ${error.message}`);
  }
}

async function read(input: Uint8Array): Promise<void> {
  const file = fileOf(input);
  const references = readReferences(file, 'stream');
  const { streams, objects, fileBytes, chunks } = references;
  const known = new Set(streams);
  demand(known.size <= streams.length && [...objects].length === objects.length, 'digests are lost');
  for (const digest of (await readNames(file, references, 'stream')).values())
    demand(known.has(digest), 'a name leads nowhere');
  const pieces: Uint8Array[] = [];
  for await (const piece of decodeSection(file, chunks, 'stream')) pieces.push(piece);
  const bytes = Buffer.concat(pieces);
  const whole = attempt(() => partsOf(bytes, bytes.length, objects.length, fileBytes));
  for (const piece of [1, 7, 4096]) {
    const parts = attempt(() => partsOf(bytes, piece, objects.length, fileBytes));
    demand(String(parts) === String(whole), `pieces of ${piece} bytes are read otherwise`);
  }
  if (whole instanceof ErrnoError) throw whole;
}

/** The parts of a file as text. Throws ErrnoError. */
function partsOf(bytes: Uint8Array, pieceBytes: number, objects: number, fileBytes: number): string {
  let text = '';
  let found = 0;
  const visitor = {
    inline: (part: Uint8Array): void => {
      demand(part.length > 0, 'a part without bytes');
      found += part.length;
      text += Buffer.from(part).toString('latin1');
    },
    object: (index: number): number => {
      demand(index >= 0 && index < objects, 'an object that the stream has not');
      found += OBJECT_BYTES;
      text += `<${index}>`;
      return OBJECT_BYTES;
    },
  };
  const parser = new ChunkParser(objects, fileBytes, visitor, 'stream');
  for (let at = 0; at < bytes.length; at += pieceBytes) parser.push(bytes.subarray(at, at + pieceBytes));
  parser.finish();
  demand(found === fileBytes, `${found} bytes of a file of ${fileBytes}`);
  return text;
}

export const streams: Target = { make, check };
