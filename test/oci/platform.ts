/** Which image of several is for a platform. Source of the variants: containers/image, internal/pkg/platform. */
import t from 'tap';
import { choosePlatform, ownPlatform, parsePlatform, platformText } from '../../src/oci/platform.ts';

const offered = ['linux/amd64', 'linux/arm/v6', 'linux/arm/v7', 'linux/arm64/v8', 'linux/s390x', 'windows/amd64', ''];
const candidates = offered.map(text => ({ text, ...(text !== '' && { platform: parsePlatform(text) }) }));
const chosen = (wanted: string, among = candidates): string | undefined =>
  choosePlatform(among, parsePlatform(wanted))?.text;

for (const [rule, wanted, want] of [
  ['the same', 'linux/amd64', 'linux/amd64'],
  ['another system', 'windows/amd64', 'windows/amd64'],
  ['a variant by itself', 'linux/arm/v6', 'linux/arm/v6'],
  ['the best variant that runs', 'linux/arm/v8', 'linux/arm/v7'],
  ['the best variant, if none is wanted', 'linux/arm', 'linux/arm/v7'],
  ['no variant that does not run', 'linux/arm/v5', undefined],
  ['the only variant of 64 bits', 'linux/arm64', 'linux/arm64/v8'],
  ['none', 'linux/riscv64', undefined],
] as const)
  t.equal(chosen(wanted), want, rule);
const plain = [{ text: 'plain', platform: parsePlatform('linux/arm64') }];
t.equal(chosen('linux/arm64/v8', plain), 'plain', 'arm64 without a variant is v8');
t.equal(chosen('linux/amd64/v3', candidates), undefined, 'a variant that was asked for is not left out');

t.strictSame(
  ['x64', 'arm64', 'ia32', 'riscv64'].map(arch => platformText(ownPlatform(arch))),
  [...['linux/amd64', 'linux/arm64', 'linux/386', 'linux/riscv64']],
);
for (const text of ['', 'linux', 'linux/', '/amd64', 'linux/arm/', 'linux/arm/v7/x'])
  t.throws(() => parsePlatform(text), { name: 'EINVAL', message: /^--platform=.*: not OS\/ARCH/ }, text);
t.end();
