/** The process that has the key of the service. It gets nothing but digests, and knows no client. */
import { type PemFile, readSigner } from '../../seal/signer.ts';
import { EFBIG, ErrnoError, must } from '../../sys/errno.ts';
import { native } from '../../sys/native.ts';
import { CHANNEL, receiveWithDescriptors, send } from '../server/orders.ts';
import type { HelperReport, HoldKey, SignDigest } from './orders.ts';
import { confineToReading } from './rights.ts';

const PEM_BYTES_MAX = 1 << 16;

/** Signs what the broker asks for, until it is gone. Throws ErrnoError if the key cannot be used. */
export function holdKey(task: HoldKey, [key = -1, certificate = -1]: readonly number[]): void {
  const files = [key, certificate].map((fd, i) => {
    const name = i === 0 ? task.key : task.certificate;
    const file = { pem: textOf(fd, name), name };
    native.close(fd);
    return file;
  });
  const signer = readSigner(files[0] as PemFile, files[1] as PemFile);
  signer.sign('0'.repeat(64)); // so that the library loads what it needs
  confineToReading();
  report({ kind: 'holds', subject: signer.subject });
  for (;;) {
    const received = receiveWithDescriptors(CHANNEL);
    if (received === undefined) return;
    const { digest } = JSON.parse(received.text) as SignDigest;
    report(signed(() => signer.sign(digest)));
  }
}

function signed(sign: () => Uint8Array): HelperReport {
  try {
    return { kind: 'signed', signature: Buffer.from(sign()).toString('base64') };
  } catch (error) {
    return { kind: 'failed', errno: 0, message: (error as Error).message };
  }
}

/** The contents of an open file, which this process could not open itself. Throws ErrnoError. */
function textOf(fd: number, name: string): string {
  const bytes = Buffer.alloc(PEM_BYTES_MAX + 1);
  const count = must(native.pread(fd, bytes, 0, bytes.length, 0), name);
  if (count > PEM_BYTES_MAX) throw new ErrnoError(EFBIG, `${name}: more than ${PEM_BYTES_MAX} bytes`);
  return bytes.toString('latin1', 0, count);
}

const report = (one: HelperReport): void => send(CHANNEL, one);
