import { execFileSync } from 'node:child_process';
import * as sha2 from '@noble/hashes/sha2.js';
import t from 'tap';
import { EIO, ENOSYS } from '../../src/sys/errno.ts';
import { DEFAULTS, type Parameters } from '../../src/verity/algorithms.ts';
import { addonHasher, blockHasher, chooseImplementation, cryptoHasher, nobleHasher } from '../../src/verity/hash.ts';
import { bytesOf, definedDigest, definedHashes, everyParameter, hex, named } from '../fixtures/images/digests.ts';

const noOpenssl = process.versions.openssl === undefined ? 'this Node has no OpenSSL' : false;
const implementations = [
  ['addon', addonHasher, noOpenssl],
  ['node:crypto', cryptoHasher, noOpenssl],
  ['@noble/hashes', (parameters: Parameters) => nobleHasher(parameters, sha2), false],
  ['the default', blockHasher, false],
] as const;

for (const [name, hasherOf, skip] of implementations) {
  t.test(name, { skip }, async t => {
    const shared = new Uint8Array(new SharedArrayBuffer(66_000));
    shared.set(bytesOf(66_000));
    for (const parameters of everyParameter([1024, 4096, 65536])) {
      const hasher = hasherOf(parameters);
      for (const [rule, blocks] of [
        ['no blocks', shared.subarray(0, 0)],
        ['one byte', shared.subarray(0, 1)],
        ['whole blocks', shared.subarray(0, 65_536)],
        ['a short last block', shared],
        ['a block after one that was short', shared.subarray(100, 100 + parameters.blockBytes)],
      ] as const) {
        const want = definedHashes(blocks, parameters).map(hex).join('');
        const out = new Uint8Array(want.length / 2 + 3).fill(0xee);
        const count = hasher.hashBlocks(blocks, out, 2);
        t.same(
          [count * hasher.digestBytes, hex(out)],
          [want.length / 2, `eeee${want}ee`],
          `${named(parameters)}: ${rule}`,
        );
      }
      t.throws(() => hasher.hashBlocks(shared, new Uint8Array(60), 29), { name: 'EINVAL' }, 'no room in out');
    }
    for (const [rule, change] of [
      ['blocks of 512 bytes', { blockBytes: 512 }],
      ['blocks of 3000 bytes', { blockBytes: 3000 }],
      ['blocks of 128 KiB', { blockBytes: 131072 }],
      ['a salt of 33 bytes', { salt: new Uint8Array(33) }],
    ] as const)
      t.throws(() => hasherOf({ ...DEFAULTS, ...change }), { name: 'EINVAL' }, rule);

    // Source: FIPS 180-2, appendices B.1 and C.1.
    const abc = Buffer.from('abc');
    for (const [algorithm, want] of [
      ['sha256', 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'],
      [
        'sha512',
        'ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a' +
          '2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f',
      ],
    ] as const) {
      const salted = hasherOf({ ...DEFAULTS, algorithm, salt: abc });
      t.equal(hex(salted.hashBytes(abc)), want, `${algorithm} of bytes, without the salt`);
    }
  });
}

t.test('which one is used', async t => {
  for (const [rule, addon, openssl, want] of [
    ['the addon where it works', 0, '3.0', 'addon'],
    ['node:crypto where the addon finds no OpenSSL', -ENOSYS, '3.0', 'crypto'],
    ['@noble/hashes where Node has none', -ENOSYS, undefined, 'noble'],
    ['an error is no absence', -EIO, '3.0', 'addon'],
  ] as const)
    t.equal(chooseImplementation(addon, openssl), want, rule);
});

/** Measures 5,000 bytes in a Node whose addon finds no OpenSSL. Prints the digest and what of Node was loaded for it. */
const program = `
  const [url, openssl] = process.argv.slice(1);
  const { dlopen } = process;
  process.dlopen = (module, ...rest) => {
    dlopen(module, ...rest);
    module.exports = { ...module.exports, hashBlocks: () => -${ENOSYS} };
  };
  if (openssl === 'without') Object.defineProperty(process, 'versions', { value: {} });
  const { getBuiltinModule } = process;
  const asked = new Set();
  process.getBuiltinModule = name => asked.add(name) && getBuiltinModule(name);
  const { measureBytes } = await import(url);
  console.log(Buffer.from(measureBytes(new Uint8Array(5000).fill(1))).toString('hex'), ...asked);`;

t.test('digests where the addon finds no OpenSSL', async t => {
  const url = new URL('../../src/verity/digest.js', import.meta.url).href;
  const want = definedDigest(new Uint8Array(5000).fill(1), DEFAULTS);
  for (const [openssl, loaded] of [
    ['with', ' node:crypto'],
    ['without', ''],
  ] as const) {
    const args = ['--input-type=module', '--eval', program, url, openssl];
    const said = execFileSync(process.execPath, args, { encoding: 'latin1' }).trim();
    t.equal(said, want + loaded, `a Node ${openssl} OpenSSL`);
  }
});
