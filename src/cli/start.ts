/**
 * Starts the bundle of the command. V8 uses the code cache that scripts/compile.ts wrote, if it was made for this Node.js.
 * Without the cache, compiling takes 10 ms of a mount, and as much again when functions are called for the first time.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Script } from 'node:vm';
import { crc32 } from 'node:zlib';

/** The CommonJS wrapper: the values that a module gets. */
type Wrapper = (
  exports: object,
  require: (name: string) => unknown,
  module: NodeJS.Module,
  filename: string,
  directory: string,
) => void;

/** Modules of Node.js that take 4 ms to initialise, and that a mount needs late or never. */
const LATE: readonly string[] = ['child_process', 'net', 'os', 'readline', 'worker_threads'].map(
  name => `node:${name}`,
);

const CHECKSUM_BYTES = 4;
const file = join(__dirname, 'main.cjs');
const source = readFileSync(file);
const script = new Script(source.toString('latin1'), {
  filename: file,
  cachedData: compiled(),
});
(script.runInThisContext() as Wrapper)(exports, load, module, file, __dirname);

/**
 * Loads a module for the bundle. One of LATE is loaded when a property of it is used. A file outside the bundle is an ES module,
 * so the answer is a promise, as a plain object: the bundle copies what it gets.
 */
function load(name: string): unknown {
  if (LATE.includes(name)) return new Proxy({}, { get: (_, key) => require(name)[key] });
  if (!name.startsWith('.')) return require(name);
  const url = pathToFileURL(join(__dirname, name)).href;
  // biome-ignore lint/suspicious/noThenProperty: awaited like a promise, which would lose its nature when it is copied
  return { then: (...done: Parameters<Promise<unknown>['then']>) => import(url).then(...done) };
}

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
