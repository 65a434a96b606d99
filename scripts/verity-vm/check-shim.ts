/** Compares the fs-verity shims and our own computation with the program fsverity, which queries the kernel independently. */
import { writeFileSync } from 'node:fs';
import { native } from '../../src/sys/native.ts';
import { ALGORITHMS, type Algorithm, measureBytes } from '../../src/verity/digest.ts';
import { check, contentOf, DISK, kernelDigest, olderThan, skip, withOpen } from './guest.ts';

/** Enables fs-verity on a file. @returns 0 or a negative errno */
export function guard(path: string, algorithm: Algorithm = 'sha256', blockBytes = 4096): number {
  return withOpen(path, 'r', fd => native.enableVerity(fd, ALGORITHMS[algorithm].number, blockBytes));
}

const ANSWER_BYTES_MAX = 4 + 64;

/** The result of measureVerity in the format of `fsverity measure`, or a negative errno. */
export function shimDigest(path: string, roomBytes = ANSWER_BYTES_MAX): string | number {
  const answer = Buffer.alloc(roomBytes);
  const length = withOpen(path, 'r', fd => native.measureVerity(fd, answer));
  if (length < 0) return length;
  const algorithm = [undefined, 'sha256', 'sha512'][answer.readUInt16LE(0)];
  return `${algorithm}:${answer.subarray(4, length).toString('hex')}`;
}

/** The digest that our code computes, in the same format. */
function computed(content: Uint8Array, algorithm: Algorithm, blockBytes: number): string {
  const digest = measureBytes(content, { algorithm, blockBytes, salt: new Uint8Array(0) });
  return `${algorithm}:${Buffer.from(digest).toString('hex')}`;
}

export function checkShim(): void {
  for (const [algorithm, blockBytes, sizeBytes, tooOld] of [
    ['sha256', 4096, 0, undefined],
    ['sha256', 4096, 1 << 20, undefined],
    ['sha512', 4096, 4097, undefined],
    ['sha512', 4096, 1 << 20, undefined],
    ['sha256', 1024, 1 << 20, olderThan(6, 3)],
    ['sha512', 2048, 1 << 20, olderThan(6, 3)],
  ] as const) {
    const rule = `${sizeBytes} bytes, ${algorithm}, blocks of ${blockBytes}: shim and computation agree with fsverity`;
    if (tooOld) {
      skip(rule, `${tooOld}, the first with other blocks than pages`);
      continue;
    }
    const path = `${DISK}/${algorithm}-${blockBytes}-${sizeBytes}`;
    const content = contentOf(path, sizeBytes);
    writeFileSync(path, content);
    const status = guard(path, algorithm, blockBytes);
    const digest = kernelDigest(path);
    check(rule, [status, shimDigest(path), computed(content, algorithm, blockBytes)], [0, digest, digest]);
  }
  checkRefusals();
}

function checkRefusals(): void {
  const guarded = `${DISK}/sha512-4096-4097`;
  const plain = `${DISK}/plain`;
  writeFileSync(plain, 'plain');
  for (const [rule, result, errno] of [
    ['enabling it twice: EEXIST', guard(guarded, 'sha512'), 17],
    ['enabling it while somebody writes: ETXTBSY', withOpen(plain, 'r+', () => guard(plain)), 26],
    ['measuring a file without it: ENODATA', shimDigest(plain), 61],
    ['measuring a directory: ENODATA', shimDigest(DISK), 61],
    ['measuring on a filesystem without it: ENOTTY', shimDigest('/proc/version'), 25],
    ['measuring SHA-512 with room for SHA-256: EOVERFLOW', shimDigest(guarded, 4 + 32), 75],
  ] as const)
    check(rule, result, -errno);
}
