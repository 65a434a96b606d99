/**
 * Prints the INIT request of the kernel in hexadecimal. Runs in a mount namespace of its own, which goes with the process,
 * and the mount with it: nobody else ever sees it.
 */
import { openSync, writeSync } from 'node:fs';
import { dataString } from '../fuse/mount.ts';
import { must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';

/** Any directory that this process does not use. */
const TARGET = '/sys';
const MS_RDONLY = 1;
/** The kernel gives no request to a reader with room for less than 8,192 bytes. */
const REQUEST_BYTES = 1 << 16;

const fd = openSync('/dev/fuse', 'r+');
const options = { fsname: 'lowerdata', subtype: 'lowerdata', allowOther: false, flags: [] };
must(native.mount('lowerdata', TARGET, 'fuse', MS_RDONLY, dataString(fd, options)), 'mount');
const request = new Uint8Array(REQUEST_BYTES);
const bytes = must(native.fuseReceive(fd, request), 'INIT');
writeSync(1, Buffer.from(request.subarray(0, bytes)).toString('hex'));
process.exit(0);
