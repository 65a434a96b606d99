/** Explains why a path leads to its object: the steps of its lookup, layer by layer, as lookup reported them. */
import type { Data, Inode } from '../layers/layer.ts';
import type { Node } from '../overlay/node.ts';
import type { Option } from '../overlay/options/split.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { findPath } from '../overlay/path.ts';
import { RULES, type RuleName, type Trace } from '../overlay/trace.ts';
import { type ByteString, printable } from '../sys/bytes.ts';
import { ErrnoError, errnoName } from '../sys/errno.ts';
import { isRegular } from '../sys/stat.ts';
import { fileType } from '../terminal/attributes.ts';
import { asLinux, type Kernel, REFERENCE, refusalOf } from './kernels.ts';

/** One event of a lookup; texts show byte strings as messages do. */
export type TraceEvent =
  | { readonly layer: string; readonly asked: string }
  | { readonly component: string; readonly found: string }
  | { readonly rule: RuleName; readonly text: string };

/** One name looked up in one directory of the overlay. */
export interface LookupReport {
  readonly name: string;
  readonly events: readonly TraceEvent[];
  readonly outcome: string;
}

/** How the data of a regular file is found, and what checks it. */
export interface DataReport {
  readonly events: readonly TraceEvent[];
  /** The place of the data, or the name of an errno. */
  readonly outcome: string;
  readonly sizeBytes?: number;
  readonly verity: string;
}

/** One path: a report for each name that was looked up on the way, symlinks included, and one for the data at its end. */
export interface Explanation {
  readonly path: string;
  readonly lookups: readonly LookupReport[];
  readonly data?: DataReport;
  /** The result of a kernel with the same options. */
  readonly kernel: {
    readonly version: Kernel;
    readonly same: boolean;
    readonly outcome: string;
    readonly data?: string;
    readonly rule?: string;
  };
}

/**
 * Explains paths of one stack.
 * @example
 * const overlay = openStack('image.cfs::tree');
 * assert.equal(new Explainer(overlay).explain('/poem').data?.outcome, 'layer tree: /poem');
 * overlay.close();
 */
export class Explainer {
  private readonly overlay: Overlay;
  private readonly kernel: Overlay;
  private readonly version: Kernel;
  private readonly refusal: string | undefined;

  /**
   * @param version the kernel whose result stands beside that of the stack
   * @param given the mount options, of which that kernel may refuse some
   */
  constructor(overlay: Overlay, version: Kernel = REFERENCE, given: readonly Option[] = []) {
    this.overlay = overlay;
    this.version = version;
    this.kernel = asLinux(overlay, version);
    this.refusal = refusalOf(version, overlay, given);
  }

  /**
   * Explains a path; symlinks on the way are followed, except the last.
   * @param measure whether data whose digest is not known is read and measured now
   */
  explain(path: ByteString, measure = false): Explanation {
    const { lookups, data } = traceLookup(this.overlay, path, measure);
    const { version, refusal } = this;
    if (refusal) {
      const kernel = { version, same: false, outcome: 'EINVAL', rule: refusal };
      return { path: printable(path), lookups, ...(data && { data }), kernel };
    }
    const kernel = traceLookup(this.kernel, path, false);
    const outcome = lookups.at(-1)?.outcome ?? 'the root';
    const same =
      kernel.lookups.length === lookups.length &&
      kernel.lookups.every((one, i) => one.outcome === lookups[i]?.outcome) &&
      kernel.data?.outcome === data?.outcome;
    return {
      path: printable(path),
      lookups,
      ...(data && { data }),
      kernel: { version, same, outcome: kernel.lookups.at(-1)?.outcome ?? outcome, ...(same ? {} : deviation(kernel)) },
    };
  }
}

/** The last rule that the lookup by Linux applied, and its data. */
function deviation({ lookups, data }: TracedLookup): { data?: string; rule?: string } {
  const rules = (lookups.at(-1)?.events ?? []).filter(event => 'rule' in event);
  const last = rules.at(-1);
  return { ...(data && { data: data.outcome }), ...(last && 'rule' in last && { rule: `${last.rule}: ${last.text}` }) };
}

/** The events of one lookup, and of the search for the data. */
interface TracedLookup {
  readonly lookups: LookupReport[];
  readonly data?: DataReport;
}

function traceLookup(overlay: Overlay, path: ByteString, measure: boolean): TracedLookup {
  const recorder = new Recorder();
  overlay.trace = recorder;
  try {
    const node = findPath(overlay, path, false);
    const { lookups } = recorder;
    return isRegular(node.top.mode) ? { lookups, data: dataReport(overlay, node, recorder, measure) } : { lookups };
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error;
    recorder.fail(error);
    return { lookups: recorder.lookups };
  } finally {
    overlay.trace = undefined;
  }
}

function dataReport(overlay: Overlay, node: Node, recorder: Recorder, measure: boolean): DataReport {
  const events = recorder.begin();
  try {
    const data = overlay.find(node);
    if (typeof data === 'number') return { events, outcome: errnoName(data), verity: 'nothing to check' };
    try {
      return {
        events,
        outcome: data.place,
        sizeBytes: data.sizeBytes,
        verity: verityReport(overlay, node, data, measure),
      };
    } finally {
      data.close();
    }
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error;
    return { events, outcome: `${error.name}: ${error.message}`, verity: 'nothing to check' };
  }
}

/** The digest that the data is checked against at open, and the outcome of the check. */
function verityReport(overlay: Overlay, node: Node, data: Data, measure: boolean): string {
  try {
    const check = overlay.check(node, data);
    if (check === undefined) return node.data === undefined ? 'none: its data is its own' : unchecked(overlay);
    const wanted = `${check.algorithm}:${Buffer.from(check.digest).toString('hex')}`;
    const known = check.known(false);
    if (known) return `${wanted}, as ${known.byKernel ? 'the kernel has measured it' : 'measured before'}`;
    if (!measure) return `${wanted}, to be measured at open`;
    check.measure(false);
    return `${wanted}, as measured now`;
  } catch (error) {
    if (error instanceof ErrnoError) return `${error.name}: ${error.message}`;
    throw error;
  }
}

const unchecked = ({ options }: Overlay): string =>
  options.verity === 'off' ? 'none: verity=off' : 'none: its metacopy xattr has no digest';

/** The rule that decided a lookup, and the layer that was being asked at that time. */
export interface Decision {
  readonly layer?: string;
  readonly rule: string;
}

/** Rules that only conclude a lookup which other rules decided before. */
const CONCLUSIONS: readonly RuleName[] = ['L7', 'L8', 'P-O3'];

/**
 * Records the events of lookups.
 * @example
 * const overlay = openStack('tree');
 * const recorder = new Recorder();
 * overlay.trace = recorder;
 * findPath(overlay, '/poem');
 * assert.equal(recorder.lookups.at(-1)?.outcome, 'regular file of tree');
 * overlay.close();
 */
export class Recorder implements Trace {
  readonly lookups: LookupReport[] = [];
  private events: TraceEvent[] = [];
  private name = '';
  private isOpen = false;

  /** Starts a new list of events, for an operation that is no lookup. @returns the list, which grows with each event */
  begin(): readonly TraceEvent[] {
    this.events = [];
    return this.events;
  }

  /** The decision of the last lookup. */
  decision(): Decision {
    let layer: string | undefined;
    let decision: Decision = { rule: 'nothing' };
    for (const event of this.lookups.at(-1)?.events ?? []) {
      if ('layer' in event) layer = event.layer;
      if ('rule' in event && !CONCLUSIONS.includes(event.rule))
        decision = { ...(layer !== undefined && { layer }), rule: `${event.rule} ${event.text}` };
    }
    return decision;
  }

  lookup(name: ByteString): void {
    this.name = printable(name);
    this.begin();
    this.isOpen = true;
  }

  layer(path: string, name: ByteString): void {
    this.events.push({ layer: path, asked: printable(name) });
  }

  component(name: ByteString, found: Inode | undefined): void {
    this.events.push({ component: printable(name), found: found ? fileType(found.mode).name : 'nothing' });
  }

  rule(rule: RuleName, detail?: string): void {
    this.events.push({ rule, text: detail === undefined ? RULES[rule] : `${RULES[rule]}: ${detail}` });
  }

  outcome(found: Node | number): void {
    this.end(typeof found === 'number' ? errnoName(found) : nodeText(found));
  }

  /** Records an error as the outcome of the lookup that it ended; nothing if no lookup was under way. */
  fail(error: ErrnoError): void {
    if (this.isOpen) this.end(`${error.name}: ${error.message}`);
  }

  private end(outcome: string): void {
    this.lookups.push({ name: this.name, events: this.events, outcome });
    this.isOpen = false;
  }
}

function nodeText({ top, stack, data }: Node): string {
  const layers = stack.map(({ layer }) => layer.path).join(', ');
  const what = `${fileType(top.mode).name} of ${layers}`;
  if (data === undefined) return what;
  if (typeof data !== 'string') return `${what}, data of ${data.layer.path}`;
  return data === '' ? `${what}, data by its origin` : `${what}, data at ${printable(data)} in data-only layers`;
}
