/**
 * The objects that an interrupted fsck found to be good, so that the next run continues from there. Each stack and each repository has its own file.
 */
import { createHash } from 'node:crypto';
import { appendFileSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { ByteString } from '../sys/bytes.ts';
import { realPath } from '../sys/real-path.ts';
import type { Journal } from './object-check.ts';

/** The maximum number of lines that are lost if the process is killed. */
const LINES_MAX = 256;

export class FsckJournal implements Journal {
  private readonly file: string;
  private readonly good: Set<string>;
  private lines: string[] = [];

  /**
   * Reads the journal of the last run; it is empty if there is none. @param paths what is checked: the layers of a stack, or a
   * repository @param purpose separates the journals of different kinds of runs
   */
  constructor(paths: readonly ByteString[], purpose: string) {
    const real = paths.map(realPath);
    const stack = createHash('sha256').update(real.join('\0'), 'latin1').digest('hex');
    this.file = join(directory(), `${purpose}-${stack}`);
    this.good = new Set(linesOf(this.file));
  }

  has(key: string): boolean {
    return this.good.has(key);
  }

  /** Throws the error of node:fs if the journal cannot be written. */
  add(key: string): void {
    this.lines.push(key);
    if (this.lines.length >= LINES_MAX) this.flush();
  }

  flush(): void {
    if (this.lines.length === 0) return;
    mkdirSync(directory(), { recursive: true, mode: 0o700 });
    appendFileSync(this.file, `${this.lines.join('\n')}\n`, { mode: 0o600 });
    this.lines = [];
  }

  /** Deletes the journal: all is done, or is to be done anew. */
  remove(): void {
    this.good.clear();
    this.lines = [];
    rmSync(this.file, { force: true });
  }
}

/** The directory of the journals: /var/cache/lowerdata for root, otherwise `lowerdata` below $XDG_CACHE_HOME or ~/.cache. */
function directory(): string {
  if (process.geteuid?.() === 0) return '/var/cache/lowerdata';
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'lowerdata');
}

/** The lines of a journal; none if it cannot be read. A last line without its newline was cut off, and is dropped. */
function linesOf(file: string): string[] {
  try {
    return readFileSync(file, 'latin1').split('\n').slice(0, -1);
  } catch {
    return [];
  }
}
