/**
 * Starts the bundle of the command. Where this is the Node.js that made the bundle, V8 takes what it compiled then: it would
 * take 5 ms of a mount to compile, and as much again when functions are called for the first time.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Script } from 'node:vm';

/** What CommonJS gives a module, as this one is when it is bundled; a script has no `import()` of its own. */
type Wrapper = (
  exports: object,
  require: NodeJS.Require,
  module: NodeJS.Module,
  directory: string,
  importFile: (url: string) => Promise<unknown>,
) => void;

/** How many bytes of both files tell that they were made together, at their ends. */
const SEAL_BYTES = 16;
const file = join(__dirname, 'main.cjs');
const source = readFileSync(file);
const script = new Script(source.toString('latin1'), { filename: file, cachedData: compiled() });
(script.runInThisContext() as Wrapper)(exports, require, module, __dirname, url => import(url));

/**
 * What was compiled of this source; undefined where there is none. V8 looks for its own version and flags, and whether all of
 * it is there.
 */
function compiled(): Buffer | undefined {
  try {
    const cache = readFileSync(`${file}.cache`);
    const belongs = cache.subarray(-SEAL_BYTES).equals(source.subarray(-SEAL_BYTES));
    return belongs ? cache.subarray(0, -SEAL_BYTES) : undefined;
  } catch {
    return undefined;
  }
}
