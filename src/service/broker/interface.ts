/** The interface of the service, io.lowerdata.Mount. Its text is in the documentation as docs/service.md shows it. */
import { defineInterface } from '../varlink/interface.ts';
import { array, bool, choice, fd, int, maybe, named, string, struct } from '../varlink/types.ts';

const mountInfo = named(
  'MountInfo',
  struct({
    mountId: string,
    image: string,
    digest: string,
    isOfClient: bool,
    startedAt: int(0),
    users: array(int(0)),
    pid: int(0),
  }),
);

const algorithm = choice('sha256', 'sha512');

const treeOptions = named(
  'TreeOptions',
  struct({
    ...{ useEpoch: maybe(bool), skipDevices: maybe(bool), skipXattrs: maybe(bool), userXattrs: maybe(bool) },
    ...{ hardLinks: maybe(bool), algorithm: maybe(algorithm) },
  }),
);

export const mountInterface = defineInterface(
  'io.lowerdata.Mount',
  'Mounts composefs images of a store for clients without privileges.\nA digest is the fs-verity digest of an image, in hexadecimal.',
  {
    methods: {
      Mount: {
        about:
          "Mount an image of the store, by its name or digest; or one of the client's own, of the digest,\nwith a signature in base64 and the directories of its objects, which are read with the client's\nrights. Exactly one of image and imageFileDescriptor is given. The mount is read-only, nosuid\nand nodev, and attached nowhere: the client attaches it by move_mount(2). It shows owners by\nthe mapping of the user namespace, which must belong to the client.",
        takes: {
          ...{ image: maybe(string), userNamespaceFileDescriptor: maybe(fd) },
          ...{ imageFileDescriptor: maybe(fd), objectDirectoryFileDescriptors: maybe(array(fd)) },
          ...{ digest: maybe(string), signature: maybe(string) },
        },
        gives: { mountFileDescriptor: fd, digest: string, mountId: string },
      },
      Serve: {
        about:
          "Serve a connection of /dev/fuse that the client has mounted: an image of the store, or one\nof the client's own with the directories of its objects, which are read with the client's\nrights. Exactly one of image and imageFileDescriptor is given.",
        takes: {
          fuseFileDescriptor: fd,
          image: maybe(string),
          imageFileDescriptor: maybe(fd),
          objectDirectoryFileDescriptors: maybe(array(fd)),
          digest: maybe(string),
        },
        gives: { digest: string, mountId: string },
      },
      List: {
        about: 'List the images that the client has mounted; for root, those of all clients.',
        takes: {},
        gives: { mounts: array(mountInfo) },
      },
      Describe: {
        about: 'Describe one of them.',
        takes: { mountId: string },
        gives: { mount: mountInfo },
      },
      Release: {
        about:
          'The client wants no further mount of this image. What is attached stays until it is\nunmounted; without this call, the image is kept ready for a minute.',
        takes: { mountId: string },
        gives: {},
      },
      MakeImage: {
        about:
          "Make a composefs image. Of a directory, which is read with the client's rights: the image is a\nsealed file in memory, and data is read for its digest, and copied nowhere. Or of an image in a\nregistry, docker://HOST/NAME[:TAG|@DIGEST], for users whom the service allows that: it is pulled\ninto the store, and gets the name. Exactly one of treeFileDescriptor and reference is given.",
        takes: {
          ...{ treeFileDescriptor: maybe(fd), options: maybe(treeOptions) },
          ...{ reference: maybe(string), name: maybe(string) },
        },
        gives: { imageFileDescriptor: maybe(fd), digest: string },
      },
      Sign: {
        about:
          'Sign the fs-verity digest of an image, a file that is open for reading and does not change. The\nsignature is PKCS#7 in DER, detached, in base64, as the kernel verifies it for fs-verity.',
        takes: { imageFileDescriptor: fd, algorithm: maybe(algorithm) },
        gives: { signature: string, digest: string },
      },
    },
    errors: {
      NoSuchImage: { about: 'The store has no image of this name or digest.', holds: { image: string } },
      NoSuchMount: { about: 'The service has no such mount.', holds: { mountId: string } },
      DeniedByPolicy: {
        about: 'The image is not allowed: no key that counts has signed it. Each key that was tried is named.',
        holds: { reason: string },
      },
      NotOwner: { about: 'The mount, or the user namespace, belongs to another user.', holds: { reason: string } },
      NotAllowed: { about: 'The service does not do that for this user.', holds: { reason: string } },
      Busy: {
        about: 'So many calls of this kind are under way, of the client or of all clients together.',
        holds: { limit: int(0) },
      },
      Failed: { about: 'It was tried, and failed.', holds: { reason: string } },
      TooManyMounts: { about: 'The client, or all clients together, have as many mounts.', holds: { limit: int(0) } },
    },
  },
);
