/**
 * Compiles dist/bin/main.cjs with V8, including functions that are not called yet, and writes the code cache beside the bundle
 * for cli/start.ts. The cache is valid only for this version of Node.js, so it is made when the package is built and again when
 * it is installed.
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
setFlagsFromString('--lazy'); // the setting at run time: V8 rejects a cache that was made with other flags
const code = script.createCachedData();
const checksum = Buffer.alloc(4);
checksum.writeUInt32LE(crc32(code, crc32(source)));
writeFileSync(`${file}.cache`, Buffer.concat([code, checksum]));
