/**
 * The programming interface: the exports of `import … from 'lowerdata'`. Nothing here mounts anything.
 *
 * - Names, paths and xattr values are byte strings (`ByteString`) with one character for each byte. ASCII text is already one.
 * `byteStringFromText` converts other text to a byte string, and `printable` converts back to text.
 * - Expected outcomes are values: a miss is undefined in a layer, and a negative errno in an overlay. Failures (a corrupt image,
 * a wrong digest, a bad option) throw ErrnoError. `errnoName` names the errno of both.
 * - Sizes end in `Bytes`. All calls block, except `digestFiles`.
 * - An object with `close` holds descriptors until it is closed.
 */

// Images: conversion between bytes and trees; trees from directories and composefs-dump(5); objects from files.
export { linesOf, parseDump } from './composefs/dumpfile.ts';
export { printImage } from './composefs/print.ts';
export { printDump } from './composefs/print-dump.ts';
export { readTree } from './composefs/read.ts';
export { type Scanned, type ScannedFile, type ScanOptions, scanTree } from './composefs/scan.ts';
export type { ComposefsVersion, StageOptions as WriteOptions } from './composefs/stage.ts';
export { newInode, setPayload, setXattr, type TreeEntry, type TreeInode, walk as walkTree } from './composefs/tree.ts';
export type { ReadOptions } from './composefs/walk-image.ts';
export { writeImage } from './composefs/write.ts';
export type { Nid } from './erofs/format.ts';
export { openImage, readImageFile } from './erofs/image.ts';
export type { Composefs, Image } from './erofs/superblock.ts';
// Explanations: why a path leads to an object, hazards of a stack, and its inventory.
export {
  type DataReport,
  Explainer,
  type Explanation,
  type LookupReport,
  Recorder,
  type TraceEvent,
} from './inspect/explain.ts';
export { HAZARDS, type Hazard, type HazardCode, hazards } from './inspect/hazards.ts';
export { type InventoryEntry, inventory } from './inspect/inventory.ts';
// Layers: implement `Layer` to provide one from another source.
export { ErofsLayer } from './layers/erofs.ts';
export type { Data, Inode, Layer } from './layers/layer.ts';
// Stacks of layers: lookup, listing, attributes, data and its digest. `step` judges one dentry: it takes part or counts as missing.
// A Judge may replace it.
export { type Digest, parseDigest } from './overlay/metacopy.ts';
export type { Node } from './overlay/node.ts';
export { openLayer, openOverlay, openStack } from './overlay/open.ts';
export { StackDraft } from './overlay/options/draft.ts';
export { type LayerSpec, parseLowerdir } from './overlay/options/lowerdir.ts';
export {
  defaultsFor,
  IMAGE_DEFAULTS,
  KERNEL_DEFAULTS,
  type RuleOptions,
  STACK_DEFAULTS,
  type StackChoices,
  type StackDefaults,
  type StackOptions,
  settleRules,
} from './overlay/options/rules.ts';
export { type Option, splitOptions } from './overlay/options/split.ts';
export { parseOrigin } from './overlay/origin.ts';
export { Overlay } from './overlay/overlay.ts';
export { findPath } from './overlay/path.ts';
export type { Entry } from './overlay/readdir.ts';
export { parseRedirect } from './overlay/redirect.ts';
export {
  isWhiteout,
  type Judge,
  MISSING,
  opaqueness,
  type Rules,
  type Search,
  step,
  TAKES_PART,
  type Verdict,
} from './overlay/step.ts';
export { RULES, type RuleName, type Trace } from './overlay/trace.ts';
export type { Check, Measured } from './overlay/verifier.ts';
export { OverlayXattrs } from './overlay/xattrs.ts';
export { digestFiles, type PoolFile, type PoolOptions } from './store/file-pool.ts';
export { beginStore, endStore, measureFile, objectPath } from './store/objects.ts';
// Byte strings, errors, modes and device numbers.
export { type ByteString, bufferOf, byteStringFromText, byteStringOf, printable } from './sys/bytes.ts';
export { attempt, ErrnoError, errnoName } from './sys/errno.ts';
export type { Handle, Origin } from './sys/handles.ts';
export {
  type Attr,
  dtypeOf,
  isDirectory,
  isRegular,
  isSymlink,
  makeRdev,
  rdevMajor,
  rdevMinor,
  type Statfs,
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
