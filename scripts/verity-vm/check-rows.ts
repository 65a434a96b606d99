/** Reads files under each mode of `verity`, by lowerdata and by the kernel's overlayfs, which is the oracle. */
import { readFileSync } from 'node:fs';
import { check, olderThan, orErrno, skip, withLowerdata } from './guest.ts';

/** What a file is an example of, and what reading it under verity=require gives; also in overlayfs where that differs. */
export type Row = readonly [rule: string, name: string, result: string, overlayfs?: string];

export interface Stack {
  /** What each file must hold. */
  readonly contents: ReadonlyMap<string, Buffer>;
  /** Mounts by lowerdata: the source, and options but for `verity`. */
  readonly source: string;
  readonly options: readonly string[];
  /** Mounts the same by overlayfs with some options, and gives the answer of `use`. */
  readonly withOverlayfs: <T>(options: string, use: (root: string) => T) => T;
}

/** What reading a whole file gives: `content` if that is what was wanted, `other data`, or the name of the error. */
export function reading(path: string, content: Buffer): string {
  return orErrno(() => (readFileSync(path).equals(content) ? 'content' : 'other data'));
}

export function checkRows(title: string, rows: readonly Row[], stack: Stack): void {
  const readings = (root: string): Record<string, string> =>
    Object.fromEntries(rows.map(([, name]) => [name, reading(`${root}/${name}`, stack.contents.get(name) as Buffer)]));

  for (const verity of ['require', 'on', 'off']) {
    const found = withLowerdata(stack.source, [...stack.options, `verity=${verity}`], readings);
    if (verity === 'require') for (const [rule, name, result] of rows) check(`${rule}: ${result}`, found[name], result);
    const rule = `${title}, verity=${verity}: overlayfs reads and refuses the same`;
    const tooOld = olderThan(6, 6);
    if (tooOld) {
      skip(rule, `${tooOld}, the first whose overlayfs knows fs-verity`);
      continue;
    }
    const kernel = stack.withOverlayfs(`metacopy=on,redirect_dir=on,verity=${verity}`, readings);
    const differing = rows.filter(([, , , overlayfs]) => overlayfs !== undefined && verity !== 'off');
    check(rule, kernel, {
      ...found,
      ...Object.fromEntries(differing.map(([, name, , overlayfs]) => [name, overlayfs])),
    });
  }
}
