/**
 * Finds files of a stack that are not what they seem: redirects that another layer captures, data that is missing, and files that
 * the kernel (Linux 6.18) resolves differently.
 * Source: thread "[PATCH v2 00/13] Overlayfs lazy lookup of lowerdata", linux-unionfs, May 2023.
 */

import type { Node } from '../overlay/node.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { isDataRedirect } from '../overlay/redirect.ts';
import { type ByteString, byteStringOf, printable } from '../sys/bytes.ts';
import { attempt, EPERM, ErrnoError, EXDEV, errnoName, errnoText } from '../sys/errno.ts';
import { isRegular } from '../sys/stat.ts';
import { type Decision, Recorder } from './explain.ts';
import { type InventoryEntry, inventory } from './inventory.ts';
import { asLinux, type Kernel, REFERENCE } from './kernels.ts';

/**
 * All hazards: the meaning of each, and its remedy.
 * @example
 * const overlay = openStack('image.cfs::empty');
 * const [found] = hazards(overlay);
 * assert.equal(found && HAZARDS[found.code].what, 'no data-only layer has the data');
 * overlay.close();
 */
export const HAZARDS = {
  captured: {
    what: "a file of another layer is at the redirect's path, and is used as the data",
    help: 'mount with redirects=data-only, or `lowerdata relink --to data-only`, or put the layers in another order',
  },
  hidden: {
    what: "a directory of another layer is on the redirect's path, and hides the data",
    help: 'mount with redirects=data-only, or `lowerdata relink --to data-only`, or put the layers in another order',
  },
  rewritten: {
    what: 'a redirect of a directory in another layer leads the search for the data elsewhere',
    help: 'mount with redirects=data-only, or `lowerdata relink --to data-only`',
  },
  missing: {
    what: 'no data-only layer has the data',
    help: 'add the layer that has it; `lowerdata fsck` finds every missing object',
  },
  'no-data-layer': {
    what: 'a redirect begins with //, and the stack has no data-only layer',
    help: 'add one after `::`',
  },
  'foreign-origin': {
    what: 'the data has only an origin, and the filesystem of the origin is that of no layer or of several',
    help: '`lowerdata relink --to data-only` where the objects are, or add a layer of that filesystem',
  },
  'stale-origin': {
    what: 'the data has only an origin, and that file is gone',
    help: '`lowerdata relink --to origin` again',
  },
  'unreadable-origin': {
    what: 'the data has only an origin, which this process may not follow',
    help: 'check as root, or with CAP_DAC_READ_SEARCH',
  },
  size: {
    what: 'the size of the data is not the one in its metadata',
    help: '`lowerdata fsck` finds the wrong objects',
  },
  'not-followed': { what: 'the kernel follows this redirect only with other options', help: 'mount with metacopy=on' },
  'needs-lowerdata': {
    what: 'Linux 6.18 refuses this redirect',
    help: '`lowerdata relink --to absolute` for the kernel',
  },
  refused: { what: 'the kernel refuses to mount this stack', help: 'take another kernel, or lowerdata' },
  kernel: { what: 'the kernel finds something else', help: '`lowerdata explain --kernel` shows why' },
  broken: { what: 'the lookup fails', help: '`lowerdata explain` shows why' },
} as const;
/** The name of a hazard. */
export type HazardCode = keyof typeof HAZARDS;

/** One hazard of one path; HAZARDS explains its code. */
export interface Hazard {
  readonly path: ByteString;
  readonly code: HazardCode;
  /** The layer that causes the hazard, if one does. */
  readonly layer?: string;
  readonly detail: string;
}

/**
 * Yields all hazards of a stack, whatever its options say about redirects. Each file is looked up twice: by the kernel's rules,
 * and by rules under which its absolute redirect leads only to data-only layers.
 * In a stack without data-only layers, redirects lead to normal layers on purpose.
 * @param version the kernel by whose rules it is
 * @example
 * const overlay = openStack('image.cfs::empty');
 * assert.deepEqual([...hazards(overlay)].map(({ path, code }) => [path, code]), [['/poem', 'missing']]);
 * overlay.close();
 */
export function* hazards(overlay: Overlay, version: Kernel = REFERENCE): Generator<Hazard> {
  const redirects = overlay.dataLayers.length > 0 ? 'data-only' : 'kernel';
  const ours = overlay.withRules({ semantics: 'lowerdata', redirects, verity: 'off' });
  const kernel = asLinux(overlay, version);
  for (const found of inventory(ours)) {
    if ('error' in found) yield brokenHazard(ours, found);
    else if (found.node.data !== undefined) yield* fileHazards(ours, kernel, found);
  }
}

type FoundFile = Extract<InventoryEntry, { node: Node }>;
type Broken = Extract<InventoryEntry, { error: ErrnoError }>;

function brokenHazard(overlay: Overlay, { path, parent, name, error }: Broken): Hazard {
  const detail = error.message;
  if (overlay.dataLayers.length === 0 && redirectsOf(overlay, parent, name).some(isDataRedirect))
    return { path, code: 'no-data-layer', detail };
  return { path, code: 'broken', detail };
}

/**
 * The redirects of the regular files that the layers of a directory have under a name. Those that cannot be read are left out.
 */
function redirectsOf({ rules }: Overlay, { stack }: Node, name: ByteString): ByteString[] {
  if (name === '') return [];
  return stack.flatMap(directory => {
    const value = attempt(() => {
      const inode = directory.layer.lookup(directory, name);
      return inode && isRegular(inode.mode) ? inode.layer.getxattr(inode, rules.xattrs.redirect) : undefined;
    });
    return value && !(value instanceof ErrnoError) ? [byteStringOf(value)] : [];
  });
}

/** The result of opening the data, and the result of the kernel's lookup. */
interface Resolution {
  readonly data: DataFound;
  readonly kernel: Node | number;
  /** The layer and the rule that decided the kernel's lookup. */
  readonly decision: Decision;
}
type DataFound =
  | { readonly place: string; readonly sizeBytes: number }
  | { readonly missing: number; readonly why: string };

function* fileHazards(ours: Overlay, kernel: Overlay, file: FoundFile): Generator<Hazard> {
  const data = openData(ours, file.node);
  const recorder = new Recorder();
  kernel.trace = recorder;
  const found = attempt(() => kernel.lookup(file.parent, file.name));
  kernel.trace = undefined;
  if (found instanceof ErrnoError) return;
  const resolution: Resolution = { data, kernel: found, decision: recorder.decision() };
  const isInNormalLayer = 'missing' in data && typeof found !== 'number' && typeof found.data === 'object';
  if (isInNormalLayer) return;
  const { path, node } = file;
  const differs = kernelHazard(ours, file, resolution);
  if (differs) yield { path, ...differs };
  if ('missing' in data) yield { path, ...missingHazard(node, data) };
  else if (data.sizeBytes !== node.top.sizeBytes) {
    yield { path, code: 'size', detail: `${data.place} has ${data.sizeBytes} bytes, not ${node.top.sizeBytes}` };
  }
}

type Reported = Omit<Hazard, 'path'>;

/**
 * The difference between the kernel's lookup of a file and ours, if the data of the file is at a path in data-only layers or has
 * only an origin; undefined if there is none.
 */
function kernelHazard(
  ours: Overlay,
  { parent, name, node }: FoundFile,
  { kernel, decision }: Resolution,
): Reported | undefined {
  const { data } = node;
  if (typeof data !== 'string') return undefined;
  const { rule, ...layer } = decision;
  if (typeof kernel === 'number') {
    const detail = `${errnoName(kernel)}: ${rule}`;
    if (kernel === -EPERM) return { code: 'not-followed', detail };
    const isOurs = data === '' || redirectsOf(ours, parent, name).some(isDataRedirect);
    return isOurs ? { code: 'needs-lowerdata', detail } : { code: 'hidden', ...layer, detail };
  }
  if (typeof kernel.data === 'object') {
    const { path } = kernel.data.layer;
    return { code: 'captured', layer: path, detail: `${printable(data)} is a file of ${path}, too` };
  }
  if (kernel.data === data) return undefined;
  return { code: 'rewritten', ...layer, detail: `${printable(data)} becomes ${printable(String(kernel.data))}` };
}

function missingHazard({ data }: Node, { missing, why }: Extract<DataFound, { missing: number }>): Reported {
  if (missing === EPERM) return { code: 'unreadable-origin', detail: why };
  if (data !== '') return { code: 'missing', detail: `${printable(String(data))}: ${errnoText(missing)}` };
  return { code: missing === EXDEV ? 'foreign-origin' : 'stale-origin', detail: why };
}

/** Opens a file's data and closes it again: where it is and its size, or why it is missing. */
function openData(overlay: Overlay, node: Node): DataFound {
  const recorder = new Recorder();
  const events = recorder.begin();
  overlay.trace = recorder;
  const data = attempt(() => overlay.find(node));
  overlay.trace = undefined;
  if (data instanceof ErrnoError) return { missing: EPERM, why: data.message };
  if (typeof data === 'number') {
    const last = events.at(-1);
    const why = last && 'rule' in last ? last.text : errnoName(data);
    return { missing: why.endsWith('EXDEV') ? EXDEV : -data, why };
  }
  const { place, sizeBytes } = data;
  data.close();
  return { place, sizeBytes };
}
