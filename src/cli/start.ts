/**
 * Starts the bundle of the command. Where this is the Node.js for which scripts/compile.ts had it compiled, V8 takes what came of
 * that: it would take 10 ms of a mount to compile, and as much again when functions are called for the first time.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Script } from 'node:vm';
import { crc32 } from 'node:zlib';

/** What CommonJS gives a module, as this one is when it is bundled; a script has no `import()` of its own. */
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
 * What was compiled, and behind it a checksum of it and of the source: V8 looks for its own version and flags and at the length
 * of both, and dies of bytes that are wrong. undefined where there is none, or it does not fit.
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
