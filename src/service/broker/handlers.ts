/** The methods of io.lowerdata.Mount, for clients over varlink. */
import type { Makers } from '../maker/makers.ts';
import type { Descriptor } from '../varlink/descriptors.ts';
import { type CallContext, type Failure, type Implementation, implement } from '../varlink/implementation.ts';
import { mountInterface } from './interface.ts';
import type { Superblock } from './mounts.ts';
import { Refusal } from './refusal.ts';
import type { MountService, OwnImage } from './service.ts';

type Errors = (typeof mountInterface)['errors'];

export const implementationOf = (service: MountService, { maker, puller, signer }: Makers): Implementation =>
  implement(mountInterface, {
    Mount: ({ userNamespaceFileDescriptor, signature, ...named }, call) =>
      answering(call, async () => {
        const source = sourceOf(named);
        const namespace = userNamespaceFileDescriptor?.fd;
        const { fd, superblock } = await (typeof source === 'string'
          ? service.mount(call.peer, source, namespace)
          : service.mountOwn(call.peer, source, signature, namespace));
        return { mountFileDescriptor: fd, ...idOf(superblock) };
      }),
    Serve: ({ fuseFileDescriptor, ...named }, call) =>
      answering(call, async () => idOf(await service.serve(call.peer, fuseFileDescriptor.fd, sourceOf(named)))),
    List: (_, call) => ({ mounts: service.list(call.peer).map(infoOf) }),
    Describe: ({ mountId }, call) =>
      answering(call, () => ({ mount: infoOf(service.describe(call.peer, numberOf(mountId))) })),
    Release: ({ mountId }, call) =>
      answering(call, () => {
        service.release(call.peer, numberOf(mountId));
        return {};
      }),
    MakeImage: ({ treeFileDescriptor: tree, options, reference, name }, call) =>
      answering(call, async () => {
        if ((tree === undefined) === (reference === undefined))
          throw new Refusal('InvalidParameter', { parameter: 'treeFileDescriptor' });
        if ((name === undefined) !== (reference === undefined))
          throw new Refusal('InvalidParameter', { parameter: 'name' });
        if (tree === undefined) return { digest: await puller.pull(call, reference as string, name as string) };
        const { fd, digest } = await maker.makeTree(call, tree.fd, options ?? {});
        return { imageFileDescriptor: fd, digest };
      }),
    Sign: ({ imageFileDescriptor, algorithm = 'sha256' }, call) =>
      answering(call, () => signer.sign(call, imageFileDescriptor.fd, algorithm)),
  });

/** How clients name an image. */
interface Named {
  readonly image?: string | undefined;
  readonly imageFileDescriptor?: Descriptor | undefined;
  readonly objectDirectoryFileDescriptors?: readonly Descriptor[] | undefined;
  readonly digest?: string | undefined;
}

/** The name of an image of the store, or a client's own image. Throws Refusal unless it is one of the two. */
function sourceOf({
  image,
  imageFileDescriptor,
  objectDirectoryFileDescriptors = [],
  digest,
}: Named): string | OwnImage {
  if ((image === undefined) === (imageFileDescriptor === undefined))
    throw new Refusal('InvalidParameter', { parameter: 'image' });
  if (imageFileDescriptor === undefined) return image as string;
  return { fd: imageFileDescriptor.fd, objects: objectDirectoryFileDescriptors.map(({ fd }) => fd), digest };
}

/** Makes a refusal the error that the client gets. */
async function answering<T>(
  call: Pick<CallContext<never, Errors>, 'fail'>,
  act: () => T | Promise<T>,
): Promise<T | Failure> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof Refusal) return call.fail(error.name, error.parameters as never);
    throw error;
  }
}

const idOf = ({ digest, id }: Superblock) => ({ digest, mountId: String(id) });

/** The number of a mount; 0, which none has, for what is not one. */
const numberOf = (mountId: string): number => (/^[1-9]\d{0,14}$/.test(mountId) ? Number(mountId) : 0);

const infoOf = ({ id, shown, digest, isOfClient, startedAt, users, pid }: Superblock) => ({
  ...{ mountId: String(id), image: shown, digest, isOfClient, startedAt },
  users: [...users],
  pid: pid ?? 0,
});
