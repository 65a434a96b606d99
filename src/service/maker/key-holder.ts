/** The process that holds the key of the service, as the broker sees it. The broker opens the files of the key, and reads neither. */
import { fstatSync } from 'node:fs';
import { whyOthersCanChange } from '../../seal/owners.ts';
import { O_NONBLOCK, openIn } from '../../sys/beneath.ts';
import { type ByteString, printable } from '../../sys/bytes.ts';
import { EACCES, EINVAL, EIO, ErrnoError, must } from '../../sys/errno.ts';
import { realPath } from '../../sys/real-path.ts';
import type { Readiness } from '../../sys/sockets/readiness.ts';
import { AT_FDCWD } from '../../sys/statx.ts';
import { type HelperReport, NOBODY } from '../helper/orders.ts';
import { HelperProcess } from './helper-process.ts';

/** How long it may take until it answers. */
const PATIENCE_MS = 10_000;

export class KeyHolder {
  private readonly readiness: Readiness;
  private readonly names: { readonly key: string; readonly certificate: string };
  private readonly fds: readonly number[];
  private process: HelperProcess | undefined;
  /** The subject of the certificate, from a process that runs. */
  private subject: Promise<string> | undefined;
  /** Those who wait for a report, in the order in which reports come. */
  private readonly waiting: ((report: HelperReport) => void)[] = [];

  /** Throws ErrnoError, with the file, if one cannot be used. */
  constructor(readiness: Readiness, key: ByteString, certificate: ByteString) {
    this.readiness = readiness;
    this.names = { key: printable(key), certificate: printable(certificate) };
    this.fds = [key, certificate].map(openPem);
  }

  /** Starts the process, unless it runs. @returns the subject of the certificate. Throws ErrnoError if the key cannot be used. */
  start(): Promise<string> {
    this.subject ??= this.answer(() => this.begin()).then(report => {
      if (report.kind === 'holds') return report.subject;
      throw failureOf(report);
    });
    return this.subject;
  }

  /** Signs a digest. @returns the signature in base64. Throws ErrnoError. */
  async sign(digest: string): Promise<string> {
    await this.start();
    const report = await this.answer(() => this.process?.send({ kind: 'sign', digest }));
    if (report.kind === 'signed') return report.signature;
    throw failureOf(report);
  }

  private begin(): void {
    this.process = new HelperProcess(this.readiness, { kind: 'hold-key', as: NOBODY, ...this.names }, this.fds, {
      onReport: report => this.waiting.shift()?.(report),
      onEnd: () => {
        this.process = undefined;
        this.subject = undefined;
        for (const settle of this.waiting.splice(0)) settle(DEAD);
      },
    });
  }

  private answer(ask: () => void): Promise<HelperReport> {
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => this.process?.kill(), PATIENCE_MS);
      this.waiting.push(report => {
        clearTimeout(late);
        resolve(report);
      });
      try {
        ask();
      } catch (error) {
        clearTimeout(late);
        this.waiting.pop();
        reject(error);
      }
    });
  }
}

const DEAD: HelperReport = { kind: 'failed', errno: EIO, message: 'the process with the key has died' };

const failureOf = (report: HelperReport): ErrnoError =>
  report.kind === 'failed'
    ? new ErrnoError(report.errno, report.message)
    : new ErrnoError(EIO, `the process with the key says ${report.kind}`);

/** Opens a file of the key. Throws ErrnoError: EACCES if users other than root and the caller can change it. */
function openPem(path: ByteString): number {
  const shown = printable(path);
  const reason = whyOthersCanChange(path.startsWith('/') ? path : `${realPath('.')}/${path}`);
  if (reason !== undefined) throw new ErrnoError(EACCES, `${shown} does not count: ${reason}`);
  const fd = must(openIn(AT_FDCWD, path, O_NONBLOCK, 0), shown);
  if (fstatSync(fd).isFile()) return fd;
  throw new ErrnoError(EINVAL, `${shown}: not a regular file`);
}
