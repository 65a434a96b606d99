/** References of splitstreams: what another program writes is read, and what is damaged is refused with the place. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type OpenBytes, openFilesIn } from '../../../src/oci/files.ts';
import { Header, Info } from '../../../src/oci/streams/format.ts';
import { readNames, readReferences } from '../../../src/oci/streams/references.ts';
import { EUCLEAN } from '../../../src/sys/errno.ts';
import { makeSplitstream, type Shown, withoutSplitstreams } from '../../fixtures/oci/splitstreams.ts';
import { withScratchAsync } from '../../fixtures/scratch.ts';

const digest = (byte: string, bytes = 32): string => byte.repeat(bytes);
const SMALL: Shown = {
  algorithm: 1,
  contentType: 'ocilayer',
  fileBytes: 70_005,
  streams: [digest('aa'), digest('bb')],
  objects: [digest('01'), digest('02'), digest('01')],
  names: ['0:config:sha256:0', '1:a:b', '0:caf\xe9'],
  chunks: [{ inline: '68656c6c6f' }, { object: 0 }],
};

/** Opens a file of a directory for the time of a call. */
async function opened<T>(path: string, use: (file: OpenBytes) => Promise<T>): Promise<T> {
  const files = openFilesIn(join(path, '..'));
  const file = files.open(path.slice(path.lastIndexOf('/') + 1));
  try {
    return await use(file);
  } finally {
    file.close();
    files.close();
  }
}

/** All that is read of a stream. */
const read = (path: string): Promise<object> =>
  opened(path, async file => {
    const { algorithm, contentType, fileBytes, streams, objects, ...ranges } = readReferences(file, 'stream');
    const names = await readNames(file, { algorithm, contentType, fileBytes, streams, objects, ...ranges }, 'stream');
    return { algorithm, contentType, fileBytes, streams: [...streams], objects: [...objects], names: [...names] };
  });

t.test('splitstreams of another program', { skip: withoutSplitstreams }, async t =>
  withScratchAsync(async home => {
    const path = join(home, 'stream');
    const large = { ...SMALL, algorithm: 2, streams: [digest('cc', 64)], objects: [digest('dd', 64)], names: ['0:n'] };
    const none = { ...SMALL, streams: [], objects: [], names: [], chunks: [], fileBytes: 0 };
    const many = Array.from({ length: 50_000 }, (_, i) => i.toString(16).padStart(64, '0'));
    const named = { ...SMALL, streams: many, objects: many, names: many.map((name, i) => `${i}:${name}`) };
    for (const [what, stream, algorithm] of [
      ['SHA-256', SMALL, 'sha256'],
      ['SHA-512', large, 'sha512'],
      ['an old header', { ...SMALL, old: true }, 'sha256'],
      ['nothing', none, 'sha256'],
      ['very many', named, 'sha256'],
    ] as const) {
      makeSplitstream(path, stream);
      const { contentType, fileBytes, streams, objects } = stream;
      const names = stream.names.map(record => {
        const [index, ...rest] = record.split(':');
        return [rest.join(':'), streams[Number(index)]];
      });
      t.strictSame(await read(path), { algorithm, contentType, fileBytes, streams, objects, names }, what);
    }
  }),
);

t.test('splitstreams that are refused', { skip: withoutSplitstreams }, async t =>
  withScratchAsync(async home => {
    const path = join(home, 'stream');
    makeSplitstream(path, SMALL);
    const sound = readFileSync(path);
    const size = sound.length;
    const infoAt = Header.SIZE;
    const byte = (at: number, value: number) => (bytes: Buffer) => bytes.writeUInt8(value, at);
    const u64 = (at: number, value: bigint) => (bytes: Buffer) => bytes.writeBigUInt64LE(value, at);
    const streamsAt = infoAt + Info.streams;
    const namesAt = Number(sound.readBigUInt64LE(infoAt + Info.names));
    for (const [rule, damage, message] of [
      ['a header', (bytes: Buffer) => bytes.subarray(0, 31), 'not a splitstream: it has no header'],
      ['a magic', byte(0, 0x53 ^ 1), 'not a splitstream: it has no magic'],
      ['a version', byte(11, 1), 'version 1 of splitstreams is not supported; version 0 is'],
      ['an algorithm', byte(14, 3), 'fs-verity has no algorithm 3'],
      ['blocks', byte(15, 16), 'blocks of 2^16 bytes are not supported; 2^12 are'],
      ['an info in the file', u64(24, 2n ** 40n), `info: from 32 to 1099511627776, but the stream has ${size} bytes`],
      ['a whole info', u64(24, 111n), 'an info of 79 bytes; 80 are needed'],
      ['an order', u64(16, 113n), `info: from 113 to 112, but the stream has ${size} bytes`],
      ['whole digests', u64(streamsAt + 8, 175n), 'digests of streams: 63 bytes are no whole number of digests'],
      [
        'digests in the file',
        u64(streamsAt + 8, 2n ** 64n - 1n),
        `digests of streams: from 112 to 18446744073709552000, but the stream has ${size} bytes`,
      ],
      ['a size', u64(infoAt + Info.fileBytes, 2n ** 53n), 'it is of a file of 2^53 bytes or more'],
      ['names of streams', u64(streamsAt + 8, 144n), 'a name without the index of a stream'],
      ['names in zstd', byte(namesAt, 0), /^stream(: zstd)?: /],
      ['all names', u64(infoAt + Info.names + 8, BigInt(namesAt + 12)), /^stream(: zstd)?: /],
    ] as const) {
      const bytes = Buffer.from(sound);
      const changed = damage(bytes);
      writeFileSync(path, changed instanceof Buffer ? changed : bytes);
      await t.rejects(
        read(path),
        { errno: EUCLEAN, message: typeof message === 'string' ? `stream: ${message}` : message },
        `it has ${rule}`,
      );
    }
    for (const [rule, names, message] of [
      ['an index', ['0:a', 'x'], 'a name without the index of a stream'],
      ['a number', ['-1:a'], 'a name without the index of a stream'],
    ] as const) {
      makeSplitstream(path, { ...SMALL, names: [...names] });
      await t.rejects(read(path), { errno: EUCLEAN, message: `stream: ${message}` }, `a name has ${rule}`);
    }
  }),
);
t.end();
