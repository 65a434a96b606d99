/**
 * What the service does for its clients, and for whom. It has the privileges; it reads no image, but names, digests, signatures and
 * descriptors. Every decision is a line in its log.
 */
import { FUSE_DEVICE } from '../../fuse/handed-connection.ts';
import { holdImage } from '../../layers/held-image.ts';
import { verifyStored } from '../../oci/seals/stored.ts';
import { findImage, type StoredImage } from '../../oci/stored/images.ts';
import { enforce, judge, ruleFor } from '../../policy/decide.ts';
import { type Policy, readPolicy } from '../../policy/file.ts';
import { type Place, placeInStore } from '../../policy/scopes.ts';
import { readKeys } from '../../seal/keys.ts';
import { findVoucher, labelOf, type Voucher } from '../../seal/verify.ts';
import { O_DIRECTORY, O_PATH, openIn } from '../../sys/beneath.ts';
import { type ByteString, byteStringFromText, printable } from '../../sys/bytes.ts';
import { EACCES, ENOENT, ErrnoError, must } from '../../sys/errno.ts';
import { native } from '../../sys/native.ts';
import type { Readiness } from '../../sys/sockets/readiness.ts';
import { S_IFCHR, S_IFMT } from '../../sys/stat.ts';
import { AT_FDCWD, statxMode, statxRdev, statxRemembered } from '../../sys/statx.ts';
import { algorithmOfHex } from '../../verity/algorithms.ts';
import type { Peer } from '../varlink/implementation.ts';
import type { Keeper, Kept } from './kept/keeper.ts';
import { type KeptDomain, readRecord } from './kept/records.ts';
import { type ImageToMount, Mounts, type Superblock } from './mounts.ts';
import { Refusal } from './refusal.ts';
import { ServerGroup } from './server-group.ts';

/** Descriptors of a client's image and of the directories with its objects. */
export interface OwnImage {
  readonly fd: number;
  readonly objects: readonly number[];
  readonly digest: string | undefined;
}

export interface ServiceOptions {
  /** The repository whose images are mounted by their names. */
  readonly store: ByteString;
  /** Whether an image of the store is mounted without a seal. */
  readonly allowsUnsigned: boolean;
  /** Directories of keys; undefined: those of the system. */
  readonly keys: readonly ByteString[] | undefined;
  /** The policy, which is read for each request; undefined: that of the system, if it has one. */
  readonly policyFile: ByteString | undefined;
}

/** @returns the rule that allows an image of the store. Throws PolicyDenial. */
async function allowedBy(policy: Policy, image: StoredImage): Promise<string> {
  const place = placeInStore(image.store, image.name);
  const rule = ruleFor(policy, place);
  const verdicts = await judge(rule, directories => verifyStored(image, directories));
  enforce(printable(image.name), policy, place, rule, verdicts);
  return verdicts.map(({ reason }) => reason).join(', ');
}

/** Of images that clients have; no path leads to them. */
const OWN_PLACE: Place = { transport: 'lowerdata-image', scopes: [] };

/** @returns why a client's own image of a digest may be mounted. Throws ErrnoError EACCES. */
async function judgeOwn(
  digest: string,
  signature: string | undefined,
  policy: Policy | undefined,
  keys: readonly ByteString[] | undefined,
): Promise<string> {
  const image = "the client's image";
  const verify = (directories: readonly ByteString[] | undefined): Voucher => {
    if (signature === undefined) throw new ErrnoError(EACCES, `${image}: no signature is given`);
    const names = { image, signature: 'the signature', directories };
    try {
      return findVoucher(names, Buffer.from(signature, 'base64'), [digest], readKeys(directories));
    } catch (error) {
      throw error instanceof ErrnoError ? new ErrnoError(EACCES, error.message) : error; // one that is malformed, too
    }
  };
  if (policy === undefined) return `signed by ${labelOf(verify(keys).key)}`;
  const rule = ruleFor(policy, OWN_PLACE);
  const verdicts = await judge(rule, verify);
  enforce(image, policy, OWN_PLACE, rule, verdicts);
  return verdicts.map(({ reason }) => reason).join(', ');
}

const copyOf = (fd: number): number => must(native.duplicate(fd, 0), 'a descriptor of a client');

/** The number of images that a user may have mounted at a time, and all users together. */
const IMAGES_MAX = 1000;
const IMAGES_MAX_OF_ALL = 10_000;
/** The number of directories of objects that an image of a client may have. */
const OBJECTS_MAX = 16;

export class MountService {
  private readonly options: ServiceOptions;
  private readonly readiness: Readiness;
  private readonly log: (line: string) => void;
  private readonly keeper: Keeper;
  private readonly mounts: Mounts;
  private readonly stored: ServerGroup;
  /** Servers of images of clients, each with the rights of its client. */
  private readonly own = new Map<number, ServerGroup>();

  /**
   * Goes on with what an earlier broker has left, and starts a server for the images of the store. Throws ErrnoError if there is no
   * such store.
   */
  constructor(readiness: Readiness, options: ServiceOptions, log: (line: string) => void, kept: Kept) {
    this.readiness = readiness;
    this.options = options;
    this.log = log;
    this.keeper = kept.keeper;
    this.mounts = new Mounts(log, kept.keeper);
    const path = `${options.store}/objects`;
    const objects = must(openIn(AT_FDCWD, path, O_PATH | O_DIRECTORY, 0), printable(path));
    this.stored = new ServerGroup(
      readiness,
      {
        ...{ name: 'store', uid: 0, gid: 0, staysWarm: true, objects: [objects] },
        begin: { kind: 'begin', mayPassThrough: true },
      },
      log,
      kept.keeper,
    );
    this.adopt(kept);
    this.stored.warm();
  }

  private adopt({ capsules, keeper }: Kept): void {
    for (const [name, { record, fds }] of capsules) {
      const kept = readRecord(record);
      if (kept === undefined) {
        for (const fd of fds) native.close(fd);
        keeper.drop(name);
        continue;
      }
      if (kept.kind === 'numbers') {
        this.mounts.reserve(kept);
        continue;
      }
      const group = this.groupOf(kept.domain).kept(kept.group);
      const [channel = -1] = fds;
      if (kept.kind === 'server') group.adopt({ ...kept, channel });
      else this.mounts.adopt(kept, fds, group);
    }
    for (const group of [this.stored, ...this.own.values()]) group.resume();
    const count = this.mounts.list().length;
    if (count > 0) this.log(`goes on with ${count} ${count === 1 ? 'mount' : 'mounts'} of an earlier process`);
  }

  /**
   * Mounts an image of the store. @param namespace the user namespace whose owners it shows, which must be the client's own
   * @returns the descriptor of a mount that is attached nowhere
   * Throws Refusal, and ErrnoError if mounting fails.
   */
  async mount(
    peer: Peer,
    name: string,
    namespace: number | undefined,
  ): Promise<{ readonly fd: number; readonly superblock: Superblock }> {
    if (namespace !== undefined) this.checkNamespace(peer, namespace);
    this.checkNumber(peer);
    const image = await this.allowed(peer, name);
    const { fd, superblock } = await this.mounts.mount(image, peer.uid, namespace);
    this.note(peer, `mount ${superblock.id}: ${image.shown}`);
    return { fd, superblock };
  }

  /**
   * Mounts a client's own image, as `mount` does, if a key has signed its digest, or the policy allows it. The caller keeps its
   * descriptors. @param signature in base64
   */
  async mountOwn(
    peer: Peer,
    own: OwnImage,
    signature: string | undefined,
    namespace: number | undefined,
  ): Promise<{ readonly fd: number; readonly superblock: Superblock }> {
    if (namespace !== undefined) this.checkNamespace(peer, namespace);
    this.checkNumber(peer);
    const { digest = '' } = own;
    if (algorithmOfHex(digest) === undefined) throw new Refusal('InvalidParameter', { parameter: 'digest' });
    const by = await this.deciding(peer, policy => judgeOwn(digest, signature, policy, this.options.keys));
    this.note(peer, `an image of its own (${digest}): ${by}`);
    const image = this.ownImage(peer, own);
    const { fd, superblock } = await this.mounts.mountAlone(image, peer.uid, namespace, own.objects.map(copyOf));
    this.note(peer, `mount ${superblock.id}: ${image.shown}`);
    return { fd, superblock };
  }

  /**
   * Serves a connection that a client has mounted itself, with an image of the store or an image of its own, which is read with the
   * client's rights. The caller keeps its descriptors. @param fuse that of the connection
   */
  async serve(peer: Peer, fuse: number, source: string | OwnImage): Promise<Superblock> {
    this.checkNumber(peer);
    const isFuse = statxRemembered(fuse) === 0 && (statxMode() & S_IFMT) === S_IFCHR && statxRdev() === FUSE_DEVICE;
    if (!isFuse) throw new Refusal('InvalidParameter', { parameter: 'fuseFileDescriptor' });
    const isOwn = typeof source !== 'string';
    const image = isOwn ? this.ownImage(peer, source) : await this.allowed(peer, source);
    const objects = isOwn ? source.objects.map(copyOf) : [];
    const superblock = await this.mounts.serve(image, peer.uid, copyOf(fuse), objects);
    this.note(peer, `serve ${superblock.id}: ${image.shown}`);
    return superblock;
  }

  /** The images that a client has mounted; root sees all. */
  list({ uid }: Peer): Superblock[] {
    return this.mounts.list().filter(({ users }) => uid === 0 || users.has(uid));
  }

  /** Throws Refusal if the client has no such image. */
  describe({ uid }: Peer, id: number): Superblock {
    const found = this.mounts.get(id);
    if (found === undefined) throw new Refusal('NoSuchMount', { mountId: String(id) });
    if (uid !== 0 && !found.users.has(uid)) throw new Refusal('NotOwner', { reason: `mount ${id} is another user's` });
    return found;
  }

  /** The client wants no more of an image: what is attached stays until it is unmounted. Throws Refusal as `describe` does. */
  release(peer: Peer, id: number): void {
    const { users } = this.describe(peer, id);
    for (const uid of peer.uid === 0 ? [...users] : [peer.uid]) this.mounts.release(id, uid);
    this.note(peer, `release ${id}`);
  }

  private checkNumber({ uid }: Peer): void {
    const limit = this.mounts.countOf(uid) >= IMAGES_MAX ? IMAGES_MAX : IMAGES_MAX_OF_ALL;
    const isFull = limit === IMAGES_MAX || this.mounts.list().length >= IMAGES_MAX_OF_ALL;
    if (isFull) throw new Refusal('TooManyMounts', { limit });
  }

  private checkNamespace(peer: Peer, namespace: number): void {
    const owner = native.namespaceOwner(namespace);
    if (owner < 0) throw new Refusal('InvalidParameter', { parameter: 'userNamespaceFileDescriptor' });
    if (peer.uid === 0 || owner === peer.uid) return;
    this.refuse(peer, 'NotOwner', `the user namespace belongs to uid ${owner}`);
  }

  /** An image of the store, if the policy lets the client have it. Throws Refusal. */
  private async allowed(peer: Peer, name: string): Promise<ImageToMount> {
    const found = await this.find(peer, name);
    const by = await this.judge(peer, found);
    this.note(peer, `${name} (${found.digest}): ${by}`);
    const path = `${found.store}/images/${found.digest}`;
    return {
      fd: holdImage(path),
      shown: printable(path),
      digest: found.digest,
      verity: 'require',
      group: this.stored,
    };
  }

  private async find(peer: Peer, name: string): Promise<StoredImage> {
    try {
      return await findImage(this.options.store, byteStringFromText(name));
    } catch (error) {
      if (!(error instanceof ErrnoError) || error.errno !== ENOENT) throw error;
      this.note(peer, `no image ${JSON.stringify(name)}`);
      throw new Refusal('NoSuchImage', { image: name });
    }
  }

  /** @returns why the image may be mounted: by the policy, or else by a seal. Throws Refusal. */
  private async judge(peer: Peer, image: StoredImage): Promise<string> {
    const { allowsUnsigned, keys } = this.options;
    return this.deciding(peer, policy => {
      if (policy) return allowedBy(policy, image);
      if (allowsUnsigned) return 'unsigned images are allowed';
      return `signed by ${labelOf(verifyStored(image, keys).key)}`;
    });
  }

  /** @returns why something may be done. Throws Refusal. */
  private async deciding(
    peer: Peer,
    decide: (policy: Policy | undefined) => string | Promise<string>,
  ): Promise<string> {
    try {
      return await decide(await readPolicy(this.options.policyFile));
    } catch (error) {
      if (error instanceof ErrnoError && error.errno === EACCES)
        return this.refuse(peer, 'DeniedByPolicy', error.message);
      throw error;
    }
  }

  /** Its files are looked at by the server alone: their filesystem may be one that does not answer. */
  private ownImage(peer: Peer, { fd, objects, digest }: OwnImage): ImageToMount {
    if (objects.length < 1 || objects.length > OBJECTS_MAX)
      throw new Refusal('InvalidParameter', { parameter: 'objectDirectoryFileDescriptors' });
    const shown = `image of uid ${peer.uid}`;
    return {
      ...{ fd: copyOf(fd), shown, digest },
      ...{ verity: digest === undefined ? 'on' : 'require', group: this.groupOf({ name: `uid ${peer.uid}`, ...peer }) },
    };
  }

  /** The servers for images of the store, or for those of a user. */
  private groupOf({ name, uid, gid }: KeptDomain): ServerGroup {
    const known = name === this.stored.domain.name ? this.stored : this.own.get(uid);
    if (known !== undefined) return known;
    const domain = {
      ...{ name, uid, gid, staysWarm: false, objects: [] },
      begin: { kind: 'begin', mayPassThrough: false },
    } as const;
    const group = new ServerGroup(this.readiness, domain, this.log, this.keeper);
    this.own.set(uid, group);
    return group;
  }

  private refuse(peer: Peer, error: 'DeniedByPolicy' | 'NotOwner', reason: string): never {
    this.note(peer, `refused: ${reason.replaceAll('\n', '; ')}`);
    throw new Refusal(error, { reason });
  }

  private note({ uid, pid }: Peer, line: string): void {
    this.log(`uid ${uid}, process ${pid}: ${line}`);
  }
}
