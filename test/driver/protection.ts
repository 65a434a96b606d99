/** Proves src/driver/protection.ts. */
import t from 'tap';
import { protectionOf, protectionText } from '../../src/driver/protection.ts';
import type { StackOptions } from '../../src/overlay/options/rules.ts';
import { optionsOf, plainDriver } from '../fixtures/layers.ts';

const imageDigest = 'ab'.repeat(32);
const on: Partial<StackOptions> = { verity: 'on' };
const noPassthrough = 'passthrough=off';

t.test('what protects what', async t => {
  for (const [rule, lowerdir, stack, verify, passthrough, wanted] of [
    ['nothing', 'A::C', {}, undefined, true, 'none none -'],
    ['a digest', 'A::C', on, undefined, true, 'none open -'],
    ['which every file must have', 'A::C', { verity: 'require' }, undefined, true, 'none open required'],
    ['by strict redirects', 'A::C', { redirects: 'strict' }, undefined, true, 'none open required'],
    ['which need no option verity', 'A::C', { redirects: 'strict', ...on }, undefined, true, 'none open required'],
    ['redirects alone check nothing', 'A::C', { redirects: 'data-only' }, undefined, true, 'none none -'],
    ['no passthrough', 'A::C', on, undefined, noPassthrough, 'none read -'],
    ['no passthrough, and no check', 'A::C', {}, undefined, noPassthrough, 'none none -'],
    ['no passthrough, and verify=open', 'A::C', on, 'open', noPassthrough, 'none open -'],
    ['verify=open', 'A::C', on, 'open', true, 'none open -'],
    ['verify=read', 'A::C', on, 'read', true, 'none read -'],
    ['verify=read, and no check', 'A::C', {}, 'read', true, 'none none -'],
    ['the digest of an image', 'A::C', { imageDigest }, undefined, true, 'digest none -'],
    ['with all of it', 'A::C', { imageDigest, verity: 'require' }, 'read', true, 'digest read required'],
    ['an image alone', 'A', { imageDigest }, undefined, true, 'digest none -'],
    ['the digest of the first of two layers', 'A:B::C', { imageDigest, ...on }, undefined, true, 'top open -'],
  ] as const) {
    const protection = protectionOf(
      optionsOf(lowerdir, stack),
      { ...plainDriver, ...(verify && { verify }) },
      passthrough,
    );
    const { metadata, data, required } = protection;
    t.equal(`${metadata} ${data} ${required ? 'required' : '-'}`, wanted, rule);
    t.equal(protection.passthrough, passthrough, `${rule}: passthrough`);
  }
});

t.test('in words', async t => {
  for (const [metadata, data, required, passthrough, wanted] of [
    [
      'none',
      'open',
      false,
      true,
      'metadata is not checked (digest=HEX does); data that has a digest is checked when it is opened, not again unless it has fs-verity (the kernel reads it itself; verify=read checks each read)',
    ],
    [
      'none',
      'open',
      false,
      noPassthrough,
      'metadata is not checked (digest=HEX does); data that has a digest is checked when it is opened, not again unless it has fs-verity (verify=open)',
    ],
    [
      'digest',
      'open',
      true,
      true,
      'metadata is checked by its digest; data of metacopy files is checked when it is opened, not again unless it has fs-verity (the kernel reads it itself; verify=read checks each read)',
    ],
    [
      'digest',
      'read',
      true,
      true,
      'metadata is checked by its digest; data of metacopy files is checked whenever it is read (verify=read)',
    ],
    [
      'none',
      'read',
      false,
      noPassthrough,
      'metadata is not checked (digest=HEX does); data that has a digest is checked whenever it is read (passthrough=off)',
    ],
    [
      'digest',
      'none',
      false,
      true,
      'metadata is checked by its digest; data is not checked (verity=off), but where its origin leads to it',
    ],
    [
      'top',
      'none',
      false,
      true,
      'metadata of the top layer is checked by its digest, that of the others is not; data is not checked (verity=off), but where its origin leads to it',
    ],
  ] as const) {
    t.equal(protectionText({ metadata, data, required, passthrough }), wanted, `${metadata}, ${data}, ${passthrough}`);
  }
});

t.test('restrictions', async t => {
  const why = 'no digest vouches for the image x';
  const restrictions = [{ flag: 'nodev', why }] as const;
  const protection = protectionOf(optionsOf('A::C', on), plainDriver, true, restrictions);
  t.match(protectionText(protection), /; mounted nodev: no digest vouches for the image x \(option dev lifts it\)$/);
  t.notMatch(protectionText(protectionOf(optionsOf('A::C', on), plainDriver, true)), /mounted/, 'none are not told');
});
t.end();
