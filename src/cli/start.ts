/**
 * Starts the bundle of the command. V8 uses the code cache that scripts/compile.ts wrote, if it was made for this Node.js.
 * Without the cache, compiling takes 10 ms of a mount, and as much again when functions are called for the first time.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Script } from 'node:vm';
import { crc32 } from 'node:zlib';

/** The CommonJS wrapper: the values that a module gets, and `import()`, which a script does not have itself. */
type Wrapper = (
  exports: object,
  require: NodeJS.Require,
  module: NodeJS.Module,
  directory: string,
  importFile: (url: string) => Promise<unknown>,
) => void;

const CHECKSUM_BYTES = 4;
const file = join(__dirname, 'main.cjs');
const source = readFileSync(file);
const script = new Script(source.toString('latin1'), { filename: file, cachedData: compiled() });
(script.runInThisContext() as Wrapper)(exports, require, module, __dirname, url => import(url));

/**
 * The code cache, without the checksum at its end, which covers the cache and the source. V8 itself compares only its version,
 * its flags and the two lengths, and crashes on wrong bytes.
 * @returns undefined if the cache is missing or does not match
 */
function compiled(): Buffer | undefined {
  try {
    const cache = readFileSync(`${file}.cache`);
    const code = cache.subarray(0, -CHECKSUM_BYTES);
    return crc32(code, crc32(source)) === cache.readUInt32LE(code.length) ? code : undefined;
  } catch {
    return undefined;
  }
}
