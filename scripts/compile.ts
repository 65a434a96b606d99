/**
 * Has V8 compile dist/bin/main.cjs, functions that are not called yet included, and keeps what comes of it beside the bundle, for
 * cli/start.ts. It is good for this version of Node.js alone, and so made when the package is built, and when it is installed.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { Script } from 'node:vm';

/** The end of the bundle, which tells it from others: cli/start.ts compares it. */
const SEAL_BYTES = 16;
const file = fileURLToPath(new URL('../bin/main.cjs', import.meta.url));
const source = readFileSync(file);
setFlagsFromString('--no-lazy');
const script = new Script(source.toString('latin1'), { filename: 'main.cjs' });
setFlagsFromString('--lazy'); // as it will be: V8 takes nothing that was made with other flags
writeFileSync(`${file}.cache`, Buffer.concat([script.createCachedData(), source.subarray(-SEAL_BYTES)]));
