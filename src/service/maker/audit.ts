/** What is written about each decision, and what the client hears of it. */
import { asOneLine } from '../../sys/bytes.ts';
import { EIO, ErrnoError } from '../../sys/errno.ts';
import { Refusal } from '../broker/refusal.ts';
import type { HelperReport } from '../helper/orders.ts';
import type { Peer } from '../varlink/implementation.ts';

export class Audit {
  private readonly log: (line: string) => void;

  constructor(log: (line: string) => void) {
    this.log = log;
  }

  note({ uid, pid }: Peer, line: string): void {
    this.log(`uid ${uid}, process ${pid}: ${asOneLine(line)}`);
  }

  refuse(peer: Peer, error: 'NotAllowed' | 'DeniedByPolicy' | 'Failed', reason: string): never {
    this.note(peer, `refused: ${reason.replaceAll('\n', '; ')}`);
    throw new Refusal(error, { reason });
  }
}

/** Makes an ErrnoError a Refusal, Failed, with its words. @param what was done, for the log */
export async function failing<T>(audit: Audit, peer: Peer, what: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error;
    audit.note(peer, `${what}: failed: ${error.message}`);
    throw new Refusal('Failed', { reason: error.message });
  }
}

/** The digest that a helper reports. Throws ErrnoError. */
export function doneDigest(report: HelperReport): string {
  if (report.kind === 'done') return report.digest;
  if (report.kind === 'failed') throw new ErrnoError(report.errno, report.message);
  throw new ErrnoError(EIO, `a helper of the service says ${report.kind}`);
}
