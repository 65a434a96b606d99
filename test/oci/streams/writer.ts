/** Splitstreams that are written: another program reads the same parts, names and digests. */
import { openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { StreamWriter } from '../../../src/oci/streams/writer.ts';
import type { Algorithm } from '../../../src/verity/digest.ts';
import { showSplitstream, withoutSplitstreams } from '../../fixtures/oci/splitstreams.ts';
import { withScratch } from '../../fixtures/scratch.ts';

/** Writes a stream into a file. */
function write(home: string, algorithm: Algorithm, fill: (writer: StreamWriter) => void): string {
  const path = join(home, 'stream');
  const writer = new StreamWriter(algorithm, openSync(join(home, 'spool'), 'w+'), home);
  fill(writer);
  const { sizeBytes, pieces } = writer.finish('layer');
  const bytes = Buffer.concat([...pieces]);
  writer.close();
  t.equal(bytes.length, sizeBytes, 'its size is known before');
  writeFileSync(path, bytes);
  return path;
}

t.test('parts', { skip: withoutSplitstreams }, async t =>
  withScratch(home => {
    const [a, b, c] = ['aa', 'bb', 'cc'].map(byte => byte.repeat(32)) as [string, string, string];
    const path = write(home, 'sha256', writer => {
      writer.name('sha256:2', b);
      writer.name('config:sha256:1', a);
      writer.name('caf\xe9', b);
      writer.inline(Buffer.from('one'));
      writer.inline(Buffer.from('two'));
      writer.object(c, 1000);
      writer.object(a, 0);
      writer.inline(new Uint8Array());
      writer.object(c, 1000);
      writer.inline(Buffer.from('three'));
    });
    t.strictSame(showSplitstream(path), {
      ...{ algorithm: 1, contentType: 'ocilayer', fileBytes: 2011 },
      streams: [b, a],
      objects: [c, a],
      names: ['0:caf\xe9', '1:config:sha256:1', '0:sha256:2'],
      chunks: [
        { inline: Buffer.from('onetwo').toString('hex') },
        { object: 0 },
        { object: 1 },
        { object: 0 },
        { inline: Buffer.from('three').toString('hex') },
      ],
    });
    const digest = 'dd'.repeat(64);
    const none = write(home, 'sha512', writer => writer.object(digest, 5));
    t.match(showSplitstream(none), { algorithm: 2, fileBytes: 5, objects: [digest], chunks: [{ object: 0 }] });
  }),
);

t.test('long parts end at blocks', { skip: withoutSplitstreams }, async t =>
  withScratch(home => {
    const bytes = Buffer.from(Array.from({ length: 600_000 }, (_, i) => `${i}`).join('')).subarray(0, 3_000_000);
    const path = write(home, 'sha256', writer => {
      writer.object('aa'.repeat(32), 700);
      for (let at = 0; at < bytes.length; at += 777) writer.inline(bytes.subarray(at, at + 777));
    });
    const { chunks } = showSplitstream(path);
    const parts = chunks.flatMap(chunk => ('inline' in chunk ? [Buffer.from(chunk.inline, 'hex')] : []));
    t.ok(Buffer.concat(parts).equals(bytes), 'all bytes are there');
    t.strictSame(
      parts.map(part => part.length),
      [(1 << 20) - 188, 1 << 20, 3_000_000 - 2 * (1 << 20) + 188],
      'a chunk has at most 1 MiB, and ends at a block of the file',
    );
  }),
);
t.end();
