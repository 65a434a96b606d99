/**
 * The programming interface: what `import … from 'lowerdata'` gives. Nothing here mounts anything.
 *
 * - Names, paths and xattr values are byte strings (`ByteString`), one character a byte. ASCII text is one as it is; `byteStringFromText`
 *   makes one of any other text, `printable` makes text of one.
 * - What is expected to happen is a value: a miss is undefined in a layer, and a negative errno in an overlay. What must not
 *   happen (a corrupt image, a wrong digest, a bad option) throws ErrnoError. `errnoName` names the errno of both.
 * - Sizes end in `Bytes`. Calls block, but for `digestFiles`.
 * - Whatever has `close` holds descriptors until that is called.
 */

// Images: bytes to a tree and back, directories and composefs-dump(5) to a tree, files to objects.
export { linesOf, parseDump, printDump } from './composefs/dumpfile.ts';
export { printImage } from './composefs/print.ts';
export { type ReadOptions, readTree } from './composefs/read.ts';
export { type Scanned, type ScannedFile, type ScanOptions, scanTree } from './composefs/scan.ts';
export type { ComposefsVersion } from './composefs/stage.ts';
export { newInode, setPayload, setXattr, type TreeEntry, type TreeInode, walk as walkTree } from './composefs/tree.ts';
export { type WriteOptions, writeImage } from './composefs/write.ts';
export type { Nid } from './erofs/format.ts';
export { openImage, readImageFile } from './erofs/image.ts';
export type { Composefs, Image } from './erofs/superblock.ts';
// Why a path leads where it leads, and where a stack is not what it seems.
export {
  type DataReport,
  Explainer,
  type Explanation,
  type LookupReport,
  Recorder,
  type TraceEvent,
} from './inspect/explain.ts';
export { HAZARDS, type Hazard, type HazardCode, hazards } from './inspect/hazards.ts';
// A stack of layers: lookup, listing, attributes, data and its digest.
export { type InventoryEntry, inventory } from './inspect/inventory.ts';
// A layer, and what one has to answer: implement `Layer` for a source of your own.
export { ErofsLayer } from './layers/erofs.ts';
export type { Data, Inode, Layer, Statfs } from './layers/layer.ts';
// The rules of lookup: `step` judges one dentry, and a Judge may take its place.
export { type Digest, parseDigest } from './overlay/metacopy.ts';
export type { Node } from './overlay/node.ts';
export { openLayer, openOverlay, openStack } from './overlay/open.ts';
export {
  defaultsFor,
  IMAGE_DEFAULTS,
  KERNEL_DEFAULTS,
  type LayerSpec,
  type Option,
  parseLowerdir,
  type RuleOptions,
  STACK_DEFAULTS,
  type StackChoices,
  type StackDefaults,
  StackDraft,
  type StackOptions,
  settleRules,
  splitOptions,
} from './overlay/options.ts';
export { type Origin, parseOrigin } from './overlay/origin.ts';
export { Overlay } from './overlay/overlay.ts';
export { findPath } from './overlay/path.ts';
export type { Entry } from './overlay/readdir.ts';
export { parseRedirect } from './overlay/redirect.ts';
export { isWhiteout, type Judge, opaqueness, type Rules, type Search, step } from './overlay/step.ts';
export { RULES, type RuleName, type Trace } from './overlay/trace.ts';
export type { Check, Measured } from './overlay/verifier.ts';
export { OverlayXattrs } from './overlay/xattrs.ts';
export { digestFiles, type PoolFile, type PoolOptions } from './store/file-pool.ts';
export { beginStore, endStore, measureFile, objectPath } from './store/objects.ts';
// Byte strings, errors, modes and device numbers.
export { type ByteString, bufferOf, byteStringFromText, byteStringOf, printable } from './sys/bytes.ts';
export { attempt, ErrnoError, errnoName } from './sys/errno.ts';
export type { Handle } from './sys/handles.ts';
export {
  type Attr,
  dtypeOf,
  isDirectory,
  isRegular,
  isSymlink,
  makeRdev,
  rdevMajor,
  rdevMinor,
} from './sys/stat.ts';
// fs-verity digests.
export {
  type Algorithm,
  DEFAULTS as VERITY_DEFAULTS,
  Measurement,
  measure,
  measureBytes,
  measureFd,
  type Parameters as VerityParameters,
  type Read,
} from './verity/digest.ts';
export { type VerityCode, VerityError } from './verity/error.ts';
