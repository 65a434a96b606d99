/** What the service makes and signs for this user. */
import { fstatSync } from 'node:fs';
import { O_PATH, openDirectory, openForReading, openIn } from '../../sys/beneath.ts';
import { type ByteString, bufferOf, byteStringFromText, printable } from '../../sys/bytes.ts';
import { EACCES, EBUSY, EINVAL, EIO, ErrnoError, must } from '../../sys/errno.ts';
import { native } from '../../sys/native.ts';
import { AT_FDCWD } from '../../sys/statx.ts';
import type { Algorithm } from '../../verity/algorithms.ts';
import { mountInterface } from '../broker/interface.ts';
import type { TreeOptions } from '../helper/orders.ts';
import { CallError, VarlinkClient } from '../varlink/client.ts';

/** How long the service may take: longer than it gives its processes. */
const TREE_PATIENCE_MS = 330_000;
const PULL_PATIENCE_MS = 3_630_000;
const SIGN_PATIENCE_MS = 150_000;

/** Has an image made of a directory. @returns its bytes. Throws ErrnoError: EACCES, EBUSY, or EIO with what the service says. */
export function makeByService(socket: ByteString, directory: ByteString, options: TreeOptions): Uint8Array {
  return asking(socket, TREE_PATIENCE_MS, client => {
    const treeFileDescriptor = must(openDirectory(directory, false), printable(directory));
    const reply = client.call(mountInterface, 'MakeImage', { treeFileDescriptor, options });
    if (reply instanceof CallError) throw refusal(printable(directory), reply);
    const { fd = -1 } = reply.imageFileDescriptor ?? {};
    const bytes = new Uint8Array(fstatSync(fd).size);
    const count = must(native.pread(fd, bytes, 0, bytes.length, 0), 'the image of the service');
    if (count === bytes.length) return bytes;
    throw new ErrnoError(EIO, `the image of the service ends after ${count} of ${bytes.length} bytes`);
  });
}

/** Has an image of a registry pulled into the store of the service. @returns its digest. Throws ErrnoError as `makeByService` does. */
export function pullByService(socket: ByteString, reference: ByteString, name: ByteString): string {
  return asking(socket, PULL_PATIENCE_MS, client => {
    const order = { reference: textOf(reference), name: textOf(name) };
    const reply = client.call(mountInterface, 'MakeImage', order);
    if (reply instanceof CallError) throw refusal(printable(reference), reply);
    return reply.digest;
  });
}

/**
 * Has the digest of an image signed. @param digest that it has, in hexadecimal
 * Throws ErrnoError: EIO if the service signs another one; and as `makeByService` does.
 */
export function signByService(socket: ByteString, image: ByteString, algorithm: Algorithm, digest: string): Uint8Array {
  const shown = printable(image);
  return asking(socket, SIGN_PATIENCE_MS, client => {
    const found = must(openIn(AT_FDCWD, image, O_PATH, 0), shown);
    const imageFileDescriptor = openForReading(found);
    native.close(found);
    must(imageFileDescriptor, shown);
    const reply = client.call(mountInterface, 'Sign', { imageFileDescriptor, algorithm });
    if (reply instanceof CallError) throw refusal(shown, reply);
    if (reply.digest === digest) return Buffer.from(reply.signature, 'base64');
    throw new ErrnoError(EIO, `${shown}: the service has signed ${reply.digest}, but its digest is ${digest}`);
  });
}

function asking<T>(socket: ByteString, patienceMs: number, ask: (client: VarlinkClient) => T): T {
  const client = new VarlinkClient(bufferOf(socket).toString(), patienceMs);
  try {
    return ask(client);
  } finally {
    client.close();
  }
}

/** Varlink has references and names as text. Throws ErrnoError EINVAL. */
function textOf(word: ByteString): string {
  const text = bufferOf(word).toString();
  if (byteStringFromText(text) === word) return text;
  throw new ErrnoError(EINVAL, `${printable(word)}: names of images are UTF-8 for the service`);
}

/** What the service has said, as an error. @param shown names what it was asked for */
function refusal(shown: string, { error, parameters }: CallError): ErrnoError {
  const name = error.slice(error.lastIndexOf('.') + 1);
  const { reason, parameter } = parameters;
  if (name === 'Failed') return new ErrnoError(EIO, `${shown}: the service says: ${reason}`);
  if (name === 'Busy')
    return new ErrnoError(EBUSY, `${shown}: the service is busy with an earlier call of this user or of others`);
  if (name === 'InvalidParameter')
    return new ErrnoError(EINVAL, `${shown}: the service does not take this ${parameter}`);
  if (typeof reason === 'string') return new ErrnoError(EACCES, `${shown}: the service does not do that: ${reason}`);
  return new ErrnoError(EIO, `${shown}: the service says ${name} ${JSON.stringify(parameters)}`);
}
