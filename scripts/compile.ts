/**
 * Has V8 compile dist/bin/main.cjs, functions that are not called yet included, and keeps what comes of it beside the bundle, for
 * cli/start.ts. It is good for this version of Node.js alone, and so made when the package is built, and when it is installed.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { Script } from 'node:vm';
import { crc32 } from 'node:zlib';

const file = fileURLToPath(new URL('../bin/main.cjs', import.meta.url));
const source = readFileSync(file);
setFlagsFromString('--no-lazy');
const script = new Script(source.toString('latin1'), { filename: 'main.cjs' });
setFlagsFromString('--lazy'); // as it will be: V8 takes nothing that was made with other flags
const code = script.createCachedData();
const checksum = Buffer.alloc(4);
checksum.writeUInt32LE(crc32(code, crc32(source)));
writeFileSync(`${file}.cache`, Buffer.concat([code, checksum]));
