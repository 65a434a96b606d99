/**
 * The splitstreams of a repository.
 *
 * ```
 * streams/oci-layer-sha256:…       -> ../objects/35/d02f…
 * streams/refs/oci/NAME            -> ../../oci-manifest-sha256:…
 * streams/refs/oci-referrers/SUBJECT/ARTIFACT    -> ../../../oci-manifest-ARTIFACT
 * ```
 * A stream has its name only when all objects that it refers to are on disk under theirs.
 */
import { ObjectStream } from '../../store/object-stream.ts';
import { measureOpen, objectPath } from '../../store/objects.ts';
import { CONFINED, O_NOFOLLOW, O_NONBLOCK, openIn } from '../../sys/beneath.ts';
import { type ByteString, byteStringOf, printable } from '../../sys/bytes.ts';
import { EINVAL, ENOENT, ErrnoError, EUCLEAN, must } from '../../sys/errno.ts';
import { native } from '../../sys/native.ts';
import { isRegular } from '../../sys/stat.ts';
import { statx, statxMode, statxSize } from '../../sys/statx.ts';
import { ALGORITHMS, type Algorithm } from '../../verity/digest.ts';
import type { OpenBytes } from '../files.ts';
import type { Repository } from '../repository.ts';
import type { Content } from './format.ts';
import { encodeTag, manifestStream, REFERRERS, TAGS } from './names.ts';
import { StreamWriter } from './writer.ts';

const STREAMS = 'streams';
/** The target of a symlink to an object is shorter. */
const TARGET_BYTES_MAX = 256;

export class Streams {
  readonly repository: Repository;
  readonly algorithm: Algorithm;
  /** Takes parts of archives while files of the image go to the objects of the repository. */
  readonly parts: ObjectStream;

  constructor(repository: Repository) {
    this.repository = repository;
    this.algorithm = repository.algorithm;
    this.parts = new ObjectStream(repository.store, repository.algorithm);
  }

  /** The digest of the stream that has a name; undefined if none has. Throws ErrnoError with the path. */
  find(name: ByteString): string | undefined {
    const path = `${STREAMS}/${name}`;
    const target = new Uint8Array(TARGET_BYTES_MAX);
    const bytes = native.readlinkat(this.repository.fd, path, target);
    if (bytes === -ENOENT || bytes === -EINVAL) return undefined; // EINVAL: no symlink
    must(bytes, printable(`${this.repository.path}/${path}`));
    const [, first = '', rest = ''] =
      /^\.\.\/objects\/([0-9a-f]{2})\/([0-9a-f]+)$/.exec(byteStringOf(target, 0, bytes)) ?? [];
    const digest = first + rest;
    return digest.length === 2 * ALGORITHMS[this.algorithm].digestBytes ? digest : undefined;
  }

  /** The path of an object, for messages. */
  shown(digest: string): string {
    return printable(`${this.repository.store.path}/${objectPath(digest)}`);
  }

  /** Opens an object. Throws ErrnoError with its path: EUCLEAN for what is not a file. */
  open(digest: string): OpenBytes {
    const { fd: objects } = this.repository.store;
    const shown = this.shown(digest);
    const fd = must(openIn(objects, objectPath(digest), O_NONBLOCK | O_NOFOLLOW, CONFINED), shown);
    const close = (): void => void native.close(fd);
    try {
      return { fd, at: 0, sizeBytes: sizeOf(fd, '', shown), close };
    } catch (error) {
      close();
      throw error;
    }
  }

  /** Opens an object that has the digest of its name. Throws ErrnoError with its path: EUCLEAN if it has not. */
  openMeasured(digest: string): OpenBytes {
    const file = this.open(digest);
    const shown = this.shown(digest);
    try {
      const { fd, sizeBytes } = file;
      const found = measureOpen({ fd, sizeBytes, shown }, this.algorithm);
      if (found !== digest) throw new ErrnoError(EUCLEAN, `${shown}: its digest is ${found}`);
      return file;
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /** The size of an object. Throws ErrnoError with its path: ENOENT if there is none, EUCLEAN for what is not a file. */
  sizeOf(digest: string): number {
    return sizeOf(this.repository.store.fd, objectPath(digest), this.shown(digest));
  }

  /** Begins a stream, which has to be closed. Throws ErrnoError with the path of the store. */
  begin(): StreamWriter {
    const { repository, algorithm } = this;
    return new StreamWriter(algorithm, repository.makeUnnamedFile(), printable(repository.path));
  }

  /** Ends a stream, and gives it a name, in place of the stream that had it. @returns its digest. Throws ErrnoError with the path. */
  add(name: ByteString, content: Content, writer: StreamWriter): string {
    const { objects, store } = this.repository;
    const { sizeBytes, pieces } = writer.finish(content);
    objects.begin(sizeBytes);
    for (const piece of pieces) objects.write(piece);
    const { digest } = objects.end();
    objects.finish();
    this.parts.finish();
    if (this.find(name) === digest) return digest;
    must(native.syncfs(store.fd), printable(store.path)); // the names of the objects, too
    this.repository.link(`${STREAMS}/${name}`, `../objects/${objectPath(digest)}`);
    return digest;
  }

  /** Makes a tag, which leads to the stream of a manifest by its name. Throws ErrnoError with the path. */
  tag(name: ByteString, stream: ByteString): void {
    this.repository.link(`${STREAMS}/${TAGS}/${encodeTag(name)}`, `../../${stream}`);
  }

  /** Lets a manifest belong to another one, its subject; both have streams. Throws ErrnoError with the path. */
  refer(subject: string, digest: string): void {
    this.repository.link(`${STREAMS}/${REFERRERS}/${subject}/${digest}`, `../../../${manifestStream(digest)}`);
  }

  close(): void {
    this.parts.abandon();
  }
}

function sizeOf(directory: number, path: ByteString, shown: string): number {
  must(statx(directory, path), shown);
  if (isRegular(statxMode())) return statxSize();
  throw new ErrnoError(EUCLEAN, `${shown}: not a file`);
}
