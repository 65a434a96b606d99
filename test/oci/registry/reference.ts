/** Names of images in registries: which host, repository and tag they mean. */
import t from 'tap';
import { parseReference } from '../../../src/oci/reference.ts';
import { hostOf, type RegistryReference } from '../../../src/oci/registry/reference.ts';
import { EINVAL } from '../../../src/sys/errno.ts';

const DIGEST = `sha256:${'0'.repeat(64)}`;

/** Source: the rules of distribution/reference, and what skopeo asks for. */
for (const [name, registry, repository, target, host = registry] of [
  ['alpine', 'docker.io', 'library/alpine', 'latest', 'registry-1.docker.io'],
  ['alpine:3.20', 'docker.io', 'library/alpine', '3.20', 'registry-1.docker.io'],
  ['docker.io/alpine', 'docker.io', 'library/alpine', 'latest', 'registry-1.docker.io'],
  ['index.docker.io/alpine', 'docker.io', 'library/alpine', 'latest', 'registry-1.docker.io'],
  ['some/image', 'docker.io', 'some/image', 'latest', 'registry-1.docker.io'],
  ['docker.io/some/image:1', 'docker.io', 'some/image', '1', 'registry-1.docker.io'],
  ['localhost/image', 'localhost', 'image', 'latest'],
  ['localhost:5000/image:tag', 'localhost:5000', 'image', 'tag'],
  ['host.example/image', 'host.example', 'image', 'latest'],
  ['host.example:443/a/b-c/d__e.f', 'host.example:443', 'a/b-c/d__e.f', 'latest'],
  ['Host/image', 'Host', 'image', 'latest'],
  ['[::1]:5000/image', '[::1]:5000', 'image', 'latest'],
  [`host.example/image@${DIGEST}`, 'host.example', 'image', DIGEST],
  [`host.example/image:tag@${DIGEST}`, 'host.example', 'image', DIGEST],
] as const) {
  const reference = parseReference(`docker://${name}`) as RegistryReference;
  t.strictSame(reference, { transport: 'docker', registry, repository, target }, name);
  t.equal(hostOf(reference), host, name);
}

for (const [name, why] of [
  ['docker:alpine', 'not docker://HOST/NAME'],
  ['docker://', 'its name is none of a repository'],
  ['docker://host.example/', 'its name is none of a repository'],
  ['docker://host.example/a//b', 'its name is none of a repository'],
  ['docker://host.example/a/../b', 'its name is none of a repository'],
  ['docker://host.example/a?b', 'its name is none of a repository'],
  ['docker://host.example/App', 'the name of a repository has no capitals'],
  ['docker://user@host.example/a', 'its digest is neither sha256:HEX nor sha512:HEX'],
  ['docker://-host.example/a', 'its host is none'],
  ['docker://host.example:port/a', 'its host is none'],
  ['docker://host.example:99999/a', 'its host is none'],
  ['docker://host.300/a', 'its host is none'],
  ['docker://[::1:2/a', 'its host is none'],
  ['docker://host.example/a:', 'its tag is none'],
  ['docker://host.example/a:b c', 'its tag is none'],
  ['docker://host.example/a@sha256:0', 'its digest is neither sha256:HEX nor sha512:HEX'],
  [`docker://host.example/${'a'.repeat(255)}`, 'a name of 268 bytes; 255 are allowed'],
] as const)
  t.throws(() => parseReference(name), { errno: EINVAL, message: `${name}: ${why}` }, name);
t.end();
