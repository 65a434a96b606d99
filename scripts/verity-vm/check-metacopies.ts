/** Checks metacopy files of a directory layer: each form of the xattr's value, over data with fs-verity of either algorithm. */
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { checkRows, type Row } from './check-rows.ts';
import { guard } from './check-shim.ts';
import { contentOf, DISK, kernelDigest, run, withOverlayfs } from './guest.ts';

const LAYER = `${DISK}/layer`;
const DATA = `${DISK}/data`;
const content = contentOf('data', 9000);

/** struct ovl_metacopy: version, length, flags, algorithm, digest. */
const value = (version: number, length: number, algorithm: number, digest: Buffer): Buffer =>
  Buffer.from([version, length, 0, algorithm, ...digest]);

function makeData(algorithm: 'sha256' | 'sha512'): Buffer {
  const path = `${DATA}/${algorithm}`;
  writeFileSync(path, content);
  guard(path, algorithm);
  return Buffer.from(kernelDigest(path).replace(/^.*:/, ''), 'hex');
}

function makeFile(name: string, metacopy: Buffer, data: string): void {
  const path = `${LAYER}/${name}`;
  writeFileSync(path, '');
  truncateSync(path, content.length);
  const xattrs = { metacopy: `0x${metacopy.toString('hex')}`, redirect: `/${data}` };
  for (const [xattr, text] of Object.entries(xattrs))
    run('setfattr', '-n', `trusted.overlay.${xattr}`, '-v', text, path);
}

export function checkMetacopies(): void {
  for (const folder of [LAYER, DATA]) mkdirSync(folder);
  const sha256 = makeData('sha256');
  const sha512 = makeData('sha512');
  const none = Buffer.alloc(0);
  const table = [
    ['a digest of SHA-256', value(0, 36, 1, sha256), 'sha256', 'content'],
    ['a digest of SHA-512', value(0, 68, 2, sha512), 'sha512', 'content'],
    ['a digest of SHA-512, another one', value(0, 68, 2, Buffer.alloc(64)), 'sha512', 'EIO'],
    ['half a digest of SHA-512', value(0, 36, 2, sha512.subarray(32)), 'sha512', 'EIO'],
    ['an algorithm that there is not', value(0, 36, 3, sha256), 'sha256', 'EIO'],
    ['a digest of no algorithm', value(0, 36, 0, sha256), 'sha256', 'EIO'],
    ['a later version', value(1, 36, 1, sha256), 'sha256', 'EIO'],
    ['a length that is wrong', value(0, 35, 1, sha256), 'sha256', 'EIO'],
    ['a value that is too long', value(0, 69, 2, Buffer.concat([sha512, sha256.subarray(31)])), 'sha512', 'ERANGE'],
    ['a header alone', value(0, 4, 0, none), 'sha256', 'EIO'],
    ['no value', none, 'sha256', 'EIO'],
  ] as const;
  for (const [rule, metacopy, data] of table) makeFile(rule, metacopy, data);
  const rows = table.map(([rule, , , result]): Row => [rule, rule, result]);
  checkRows('metacopies', rows, {
    contents: new Map(rows.map(([, name]) => [name, content])),
    source: 'stack',
    options: [`lowerdir=${LAYER}::${DATA}`, 'metacopy=on', 'redirect_dir=on'],
    withOverlayfs: (options, use) => withOverlayfs(`${options},lowerdir=${LAYER}::${DATA}`, use),
  });
}
