/**
 * Checks lowerdata against a kernel with fs-verity. boot.sh runs it in a virtual machine; it prints TAP.
 * Usage: checks.js DEVICE, where DEVICE holds an empty ext4 with the feature verity.
 */
import { mkdirSync } from 'node:fs';
import { release } from 'node:os';
import { checkDoctor } from './check-doctor.ts';
import { checkDamage, checkImage, checkObjects, checkReads, makeImage } from './check-image.ts';
import { checkMetacopies } from './check-metacopies.ts';
import { checkShim } from './check-shim.ts';
import { DISK, finish, MOUNTPOINTS, run } from './guest.ts';

const [device = ''] = process.argv.slice(2);
const mountDisk = (): string => run('mount', '-t', 'ext4', device, DISK);

for (const folder of [DISK, ...Object.values(MOUNTPOINTS)]) mkdirSync(folder, { recursive: true });
mountDisk();
console.log(`# Linux ${release()}`);
checkShim();
checkDoctor();
makeImage();
checkObjects();
checkImage();
checkReads();
checkMetacopies();
checkDamage(device, mountDisk);
finish();
