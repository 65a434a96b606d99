/**
 * What the broker asks of a helper, and what the helper reports: a process for one task, which it does with the rights that the task
 * names and no others. Messages are sent as those of servers are. A helper may be in the hands of the user as whom it runs, so that
 * its reports are checked.
 */
import type { ScanOptions } from '../../composefs/scan.ts';
import type { ByteString } from '../../sys/bytes.ts';
import type { Algorithm } from '../../verity/algorithms.ts';
import { isLine, isNumber, receiveChecked } from '../server/orders.ts';

/** As whom a helper runs. It has no capabilities. */
export interface Identity {
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups. */
  readonly groups: readonly number[];
}

/** A user that owns nothing. Source: systemd, "Users, Groups, UIDs and GIDs on systemd Systems". */
export const NOBODY: Identity = { uid: 65_534, gid: 65_534, groups: [] };

/** Measures a file. Descriptor: the file. */
export interface Measure {
  readonly kind: 'measure';
  readonly as: Identity;
  readonly algorithm: Algorithm;
}

/** Makes an image of a tree. Descriptors: the directory, and an empty file for the image. */
export interface MakeTree {
  readonly kind: 'make';
  /** The client. */
  readonly as: Identity;
  readonly options: TreeOptions;
}

/** How an image is made of a tree; see ScanOptions. */
export interface TreeOptions
  extends Pick<ScanOptions, 'useEpoch' | 'skipDevices' | 'skipXattrs' | 'userXattrs' | 'hardLinks'> {
  readonly algorithm?: Algorithm | undefined;
}

/** Pulls an image of a registry into a repository. No descriptors. */
export interface Pull {
  readonly kind: 'pull';
  /** The owner of the repository. */
  readonly as: Identity;
  /** Absolute. */
  readonly store: ByteString;
  readonly reference: ByteString;
  readonly name: ByteString;
  /** The digest of the image that has the name, and keeps it; undefined if none has it, or if it may be replaced. */
  readonly named: string | undefined;
  readonly sources: PullSources;
}

/** What counts for images of registries; paths are absolute. */
export interface PullSources {
  /** undefined: that of the system, if it has one. */
  readonly policyFile: ByteString | undefined;
  readonly authfile: ByteString | undefined;
  readonly certDirectory: ByteString | undefined;
  /** undefined: as registries.conf says. */
  readonly verifies: boolean | undefined;
}

/** Holds a key, and signs digests with it until the broker is gone. Descriptors: the private key, and its certificate. */
export interface HoldKey {
  readonly kind: 'hold-key';
  readonly as: Identity;
  /** The names of the files, for messages. */
  readonly key: string;
  readonly certificate: string;
}

export type Task = Measure | MakeTree | Pull | HoldKey;

/** For a helper that holds a key. */
export interface SignDigest {
  readonly kind: 'sign';
  /** In hexadecimal. */
  readonly digest: string;
}

export type HelperReport =
  /** The task is done. */
  | { readonly kind: 'done'; readonly digest: string }
  /** A policy does not allow it. */
  | { readonly kind: 'denied'; readonly message: string }
  /** A descriptor is not one of what the task is about. */
  | { readonly kind: 'unfit' }
  | { readonly kind: 'failed'; readonly errno: number; readonly message: string }
  /** The key can be used. */
  | { readonly kind: 'holds'; readonly subject: string }
  /** The signature in base64. */
  | { readonly kind: 'signed'; readonly signature: string };

/** The largest signature: one of RSA of 16,384 bits has less, with the names of its certificate. */
const SIGNATURE_TEXT_MAX = 1 << 15;
const isText = (value: unknown, pattern: RegExp): boolean => typeof value === 'string' && pattern.test(value);

function isHelperReport(value: unknown): value is HelperReport {
  if (typeof value !== 'object' || value === null) return false;
  const report = value as Partial<Record<string, unknown>>;
  switch (report.kind) {
    case 'done':
      return isText(report.digest, /^(?:[0-9a-f]{64}|[0-9a-f]{128})$/);
    case 'unfit':
      return true;
    case 'denied':
      return isLine(report.message);
    case 'failed':
      return isNumber(report.errno) && isLine(report.message);
    case 'holds':
      return isLine(report.subject);
    case 'signed':
      return isText(report.signature, /^[A-Za-z0-9+/]+=*$/) && String(report.signature).length <= SIGNATURE_TEXT_MAX;
    default:
      return false;
  }
}

/** Receives a report of a helper; undefined at the end. Throws ErrnoError: EAGAIN if there is none; EPROTO if it is no report. */
export const receiveHelperReport = (channel: number): HelperReport | undefined =>
  receiveChecked(channel, isHelperReport);
