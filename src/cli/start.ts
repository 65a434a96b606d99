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

const file = join(__dirname, 'main.cjs');
const script = new Script(readFileSync(file, 'latin1'), { filename: 'main.cjs', cachedData: cacheOf(file) });
(script.runInThisContext() as Wrapper)(exports, require, module, __dirname, url => import(url));

/** undefined where there is none; one that does not fit is not used either. */
function cacheOf(file: string): Buffer | undefined {
  try {
    return readFileSync(`${file}.cache`);
  } catch {
    return undefined;
  }
}
