/**
 * Prints the kernel's INIT request in hexadecimal. The mount for it is made in a mount namespace that ends with this process, so
 * no other process sees it.
 */
import { openSync, writeSync } from 'node:fs';
import { dataString } from '../fuse/mount.ts';
import { must } from '../sys/errno.ts';
import { native } from '../sys/native.ts';

/** Any directory that this process does not use. */
const TARGET = '/sys';
const MS_RDONLY = 1;
/** The kernel hands no request to a reader whose buffer is smaller than 8,192 bytes. */
const REQUEST_BYTES = 1 << 16;

const fd = openSync('/dev/fuse', 'r+');
const options = { fsname: 'lowerdata', subtype: 'lowerdata', allowOther: false, flags: [] };
must(native.mount('lowerdata', TARGET, 'fuse', MS_RDONLY, dataString(fd, options)), 'mount');
const request = new Uint8Array(REQUEST_BYTES);
const bytes = must(native.fuseReceive(fd, request), 'INIT');
writeSync(1, Buffer.from(request.subarray(0, bytes)).toString('hex'));
process.exit(0);
