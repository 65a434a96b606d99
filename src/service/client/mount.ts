/** A mount that the service makes, or serves, for this user. */
import { attachMount } from '../../fuse/detached-mount.ts';
import { mountFuse, unmountFuse } from '../../fuse/mount.ts';
import { MountPoint } from '../../fuse/mount-point.ts';
import { mountAt, readMounts } from '../../fuse/mountinfo.ts';
import { openIn } from '../../sys/beneath.ts';
import { type ByteString, bufferOf, byteStringFromText, printable } from '../../sys/bytes.ts';
import { EACCES, EINVAL, EIO, ENOENT, ErrnoError, must } from '../../sys/errno.ts';
import { CAP_SYS_ADMIN, hasCapability, inInitialUserNamespace } from '../../sys/security/privileges.ts';
import { AT_FDCWD } from '../../sys/statx.ts';
import { mountInterface } from '../broker/interface.ts';
import { CallError, VarlinkClient } from '../varlink/client.ts';

/** How long the service may take. */
const PATIENCE_MS = 30_000;

export interface ServiceMount {
  /** The name or the digest of an image of the service's store. */
  readonly image: ByteString;
  readonly target: ByteString;
  /** The path of the service's socket. */
  readonly socket: string;
  /** Whether other users may use a mount that this one makes by fusermount3. */
  readonly allowsOthers: boolean;
}

/**
 * Mounts an image of the service's store. Root of a user namespace gets a mount with the owners of that namespace; a user without
 * privileges mounts /dev/fuse by fusermount3, and the service serves that.
 * Throws ErrnoError, EACCES if the service denies it; then nothing is mounted.
 */
export async function mountByService(order: ServiceMount): Promise<void> {
  const point = MountPoint.find(order.target);
  const client = new VarlinkClient(order.socket, PATIENCE_MS);
  try {
    if (hasCapability(CAP_SYS_ADMIN)) attach(client, order, point);
    else await haveServed(client, order, point);
  } finally {
    client.close();
  }
}

function attach(client: VarlinkClient, order: ServiceMount, point: MountPoint): void {
  const own = inInitialUserNamespace() ? undefined : must(openIn(AT_FDCWD, '/proc/self/ns/user', 0, 0), 'ns/user');
  const namespace = own === undefined ? {} : { userNamespaceFileDescriptor: own };
  const reply = client.call(mountInterface, 'Mount', { image: textOf(order.image), ...namespace });
  if (reply instanceof CallError) throw refusal(order, reply);
  must(attachMount(reply.mountFileDescriptor.fd, point), `mount point ${printable(order.target)}`);
}

async function haveServed(client: VarlinkClient, order: ServiceMount, point: MountPoint): Promise<void> {
  const { image, allowsOthers } = order;
  const made = { fsname: image, subtype: 'lowerdata', allowOther: allowsOthers, flags: [] };
  const name = textOf(image);
  const { fd, by } = await mountFuse(point, made);
  const reply = client.call(mountInterface, 'Serve', { fuseFileDescriptor: fd, image: name });
  if (!(reply instanceof CallError)) return;
  const mount = mountAt(readMounts(), point.shown);
  if (mount) await unmountFuse(mount, by, { lazy: true });
  throw refusal(order, reply);
}

/** Varlink has names as text. Throws ErrnoError EINVAL. */
function textOf(image: ByteString): string {
  const text = bufferOf(image).toString();
  if (byteStringFromText(text) === image) return text;
  throw new ErrnoError(EINVAL, `${printable(image)}: names of images are UTF-8 for the service`);
}

/** What the service has said, as an error. */
function refusal({ image }: ServiceMount, { error, parameters }: CallError): ErrnoError {
  const name = error.slice(error.lastIndexOf('.') + 1);
  const { reason } = parameters;
  if (name === 'NoSuchImage') return new ErrnoError(ENOENT, `the service has no image ${printable(image)}`);
  if (typeof reason === 'string') return new ErrnoError(EACCES, `the service does not mount it: ${reason}`);
  return new ErrnoError(EIO, `${printable(image)}: the service says ${name} ${JSON.stringify(parameters)}`);
}
