/** Pulls an image for a client, with the rights of the owner of the repository. */
import { pull } from '../../oci/pull.ts';
import { parseReference } from '../../oci/reference.ts';
import { openRegistryImage } from '../../oci/registry/image.ts';
import { Repository } from '../../oci/repository.ts';
import { admission } from '../../policy/admission.ts';
import { bufferOf, printable } from '../../sys/bytes.ts';
import { EEXIST, EINVAL, ErrnoError } from '../../sys/errno.ts';
import type { Pull } from './orders.ts';
import { confineToWriting } from './rights.ts';

/**
 * Makes the image that `lowerdata pull` makes. @returns its digest
 * Throws PolicyDenial, and ErrnoError: EEXIST if the name is that of another image, and as pull does.
 */
export async function pullImage({ store, reference: text, name, named, sources }: Pull): Promise<string> {
  confineToWriting(store);
  const reference = parseReference(text);
  if (reference.transport !== 'docker') throw new ErrnoError(EINVAL, `${printable(text)}: not in a registry`);
  const { policyFile, certDirectory, ...own } = sources;
  const admitByPolicy = await admission(printable(text), reference, store, policyFile);
  const admit = async (digest: string): Promise<void> => {
    await admitByPolicy?.(digest);
    if (named !== undefined && named !== digest)
      throw new ErrnoError(EEXIST, `${printable(name)} is the name of ${named}, and this image is ${digest}`);
  };
  const image = await openRegistryImage(reference, undefined, {
    ...own,
    certDirectory: certDirectory && bufferOf(certDirectory).toString(),
  });
  try {
    const repository = new Repository(store, undefined);
    try {
      const { digest } = await pull(image, repository, { whiteouts: 'spec', name, seals: true, admit, progress });
      return digest;
    } finally {
      repository.close();
    }
  } finally {
    image.source.close();
  }
}

const progress = () => ({ update: () => {}, stop: () => {} });
