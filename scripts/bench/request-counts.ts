/**
 * Measures the cost of counting requests, compared with the time that this process takes to answer a LOOKUP.
 *
 *     npm run build && node dist/scripts/bench/request-counts.js STACK [ROUNDS]
 *
 * Every name of a stack is looked up in random order, by a dispatcher that reads the clock itself, and by one that receives the
 * arrival time from its caller, as the serving loop passes it. In turn with these, the bare work of counting is measured, with
 * two clock readings and with one. Prints medians of CPU nanoseconds as JSON. Wall-clock time is not used, so the machine need
 * not be idle.
 */
import { Backing } from '../../src/driver/backing.ts';
import { Files } from '../../src/driver/files.ts';
import { OverlayFilesystem } from '../../src/driver/filesystem.ts';
import { Dispatcher, REQUEST_BYTES } from '../../src/fuse/dispatch.ts';
import { RequestCounts } from '../../src/fuse/request-counts.ts';
import { InHeader } from '../../src/fuse/wire/abi.ts';
import { Opcode } from '../../src/fuse/wire/opcode.ts';
import { bufferOf, byteStringFromText, type Node, type Overlay, openStack } from '../../src/index.ts';
import { isDirectory } from '../../src/sys/stat.ts';

function dispatcherOf(overlay: Overlay): Dispatcher {
  const files = new Files(overlay, new Backing(-1, false, () => {}), { idleMax: 16 });
  const cache = { entrySeconds: 3600, attrSeconds: 3600, negativeSeconds: 3600, asksToOpen: true };
  const filesystem = new OverlayFilesystem(overlay, files, cache, { acl: false, trusted: false });
  return new Dispatcher(filesystem, { wanted: { passthroughDepth: 0, posixAcl: false }, log: console.error });
}

function lookupOf(nodeid: number, name: string): Uint8Array {
  const request = new Uint8Array(InHeader.SIZE + name.length + 1);
  const view = new DataView(request.buffer);
  view.setUint32(InHeader.len, request.length, true);
  view.setUint32(InHeader.opcode, Opcode.LOOKUP, true);
  view.setBigUint64(InHeader.nodeid, BigInt(nodeid), true);
  request.set(bufferOf(name), InHeader.SIZE);
  return request;
}

/** LOOKUP requests for all names, parents first, so that asking each once in this order makes all nodes known. */
function lookupsOf(overlay: Overlay, directory: Node, nodeid: number): Uint8Array[] {
  return overlay.list(directory).flatMap(({ name }) => {
    const node = overlay.lookup(directory, name);
    const below = typeof node !== 'number' && isDirectory(node.top.mode) ? lookupsOf(overlay, node, node.ino + 2) : [];
    return [lookupOf(nodeid, name), ...below];
  });
}

function shuffle<T>(all: T[]): T[] {
  let seed = 12345;
  for (let i = all.length - 1; i > 0; i--) {
    seed = (seed * 1103515245 + 12345) & 0x7fffffff;
    const j = seed % (i + 1);
    [all[i], all[j]] = [all[j] as T, all[i] as T];
  }
  return all;
}

const [source, rounds = '40'] = process.argv.slice(2);
if (source === undefined) throw new Error('STACK is missing');
const overlay = openStack(byteStringFromText(source));
const dispatcher = dispatcherOf(overlay);
const request = new Uint8Array(REQUEST_BYTES);
const counts = new RequestCounts();
const ask = (bytes: Uint8Array, since?: number): number => {
  request.set(bytes);
  return dispatcher.handle(request, bytes.length, undefined, since);
};
const inOrder = lookupsOf(overlay, overlay.root, 1);
for (const bytes of inOrder) ask(bytes);
const lookups = shuffle(inOrder);

const told = performance.now();
const count = (since: number): void => counts.answered(Opcode.LOOKUP, 144, performance.now() - since);
const forEach = (work: (bytes: Uint8Array) => void) => (): void => {
  for (const bytes of lookups) work(bytes);
};
const ways: Record<string, () => void> = {
  lookup: forEach(bytes => ask(bytes)),
  'lookup, told when': forEach(bytes => ask(bytes, told)),
  'counting alone': forEach(() => count(performance.now())),
  'counting alone, told when': forEach(() => count(told)),
};

const processorNanoseconds = (): number => process.cpuUsage().user * 1000;
const times = new Map(Object.keys(ways).map(way => [way, [] as number[]]));
const WARM_UP = 10;
const REPEATS = 5;
for (let round = -WARM_UP; round < Number(rounds); round++) {
  for (const [way, run] of Object.entries(ways)) {
    const start = processorNanoseconds();
    for (let i = 0; i < REPEATS; i++) run();
    if (round >= 0) times.get(way)?.push((processorNanoseconds() - start) / REPEATS / lookups.length);
  }
}
const median = (numbers: number[]): number => numbers.sort((a, b) => a - b)[numbers.length >> 1] as number;
const nanoseconds = Object.fromEntries([...times].map(([way, all]) => [way, Math.round(median(all))]));
console.log(
  JSON.stringify({ bench: 'request-counts', node: process.version, names: lookups.length, nanoseconds }, null, 2),
);
