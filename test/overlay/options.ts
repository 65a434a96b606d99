import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { StackDraft } from '../../src/overlay/options/draft.ts';
import { type LayerSpec, parseLowerdir } from '../../src/overlay/options/lowerdir.ts';
import { IMAGE_DEFAULTS, KERNEL_DEFAULTS, STACK_DEFAULTS, type StackOptions } from '../../src/overlay/options/rules.ts';
import { splitOptions } from '../../src/overlay/options/split.ts';
import { EINVAL, ErrnoError } from '../../src/sys/errno.ts';
import { native } from '../../src/sys/native.ts';

/** The stack of an option string, as for mount(2). Throws EINVAL for an option that the kernel does not know, too. */
function stackOf(text: string, defaults = KERNEL_DEFAULTS): StackOptions {
  const draft = new StackDraft();
  for (const { key, value } of splitOptions(text)) {
    if (draft.set(key, value) === 'unknown') throw new ErrnoError(EINVAL, `${key}: unknown`);
  }
  return draft.finish(defaults);
}

/** `A:B::C`, with the bytes of each path as they are. */
const written = (layers: readonly LayerSpec[]): string =>
  layers.map(({ path, dataOnly }, i) => (i === 0 ? '' : dataOnly ? '::' : ':') + path).join('');

/** The message of what `action` throws, or what it returns. */
function outcome(action: () => string): string {
  try {
    return action();
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error;
    return `${error.name} ${error.message}`;
  }
}

const many = (count: number): string => Array.from({ length: count }, (_, i) => `L${i}`).join(':');

/** What the kernel makes of each, as recorded from Linux 6.18: the layers, or EINVAL (the rest of the message is ours). */
const layerRows = [
  ['two layers', 'lowerdir=A:B', 'A:B'],
  ['one layer', 'lowerdir=A', 'EINVAL lowerdir: a stack needs two layers at least'],
  ['one layer and data', 'lowerdir=A::C', 'A::C'],
  ['two data-only layers', 'lowerdir=A::C::D', 'A::C::D'],
  [
    'a normal layer after data',
    'lowerdir=A::C:B',
    'EINVAL lowerdir=A::C:B: a normal layer after a data-only one, at byte 5',
  ],
  ['no lowerdir', 'metacopy=on', 'EINVAL lowerdir: no normal layer'],
  ['an empty value', 'lowerdir=', 'EINVAL lowerdir: needs a value'],
  ['a leading colon', 'lowerdir=:A:B', 'EINVAL lowerdir=:A:B: a colon before the first layer, at byte 0'],
  ['a leading double colon', 'lowerdir=::A::B', 'EINVAL lowerdir=::A::B: a colon before the first layer, at byte 0'],
  ['a trailing colon', 'lowerdir=A:', 'EINVAL lowerdir=A:: no layer after the last colon, at byte 2'],
  ['a trailing double colon', 'lowerdir=A:B::', 'EINVAL lowerdir=A:B::: no layer after the last colon, at byte 5'],
  ['three colons', 'lowerdir=A:::C', 'EINVAL lowerdir=A:::C: more than two colons in a row, at byte 3'],
  ['an escaped colon', 'lowerdir=A:with\\:colon', 'A:with:colon'],
  ['an escaped comma', 'lowerdir=A:with\\,comma', 'A:with,comma'],
  ['an escaped backslash', 'lowerdir=A:with\\\\backslash', 'A:with\\backslash'],
  ['any other escaped byte is itself', 'lowerdir=\\A:sp\\%20ace:x\\=y', 'A:sp%20ace:x=y'],
  ['no octal escapes', 'lowerdir=A:x\\054y', 'A:x054y'],
  ['an escaped line feed', 'lowerdir=A:x\\\ny', 'A:x\ny'],
  ['quotes are bytes', 'lowerdir="A:B"', '"A:B"'],
  ['an escaped colon before a separator', 'lowerdir=A:end\\::B', 'A:end::B'],
  ['a backslash at the end', 'lowerdir=A:B\\', 'A:B'],
  ['a backslash alone', 'lowerdir=A:\\', 'EINVAL lowerdir=A:\\x5c: a backslash alone, at byte 2'],
  ['an unescaped comma begins an option', 'lowerdir=A:with,comma', 'EINVAL comma: unknown'],
  ['dots stay', 'lowerdir=./A/:A/../B/.', './A/:A/../B/.'],
  ['the last lowerdir wins', 'lowerdir=A:B,lowerdir=C:D', 'C:D'],
  ['lowerdir replaces lowerdir+', 'lowerdir+=A,lowerdir+=B,lowerdir=C:D', 'C:D'],
  ['one option for each layer', 'lowerdir+=A,lowerdir+=B,datadir+=C', 'A:B::C'],
  ['lowerdir+ splits at no colon', 'lowerdir+=A,lowerdir+=with:colon', 'A:with:colon'],
  ['lowerdir+ unescapes nothing', 'lowerdir+=A,lowerdir+=with\\:colon', 'A:with\\:colon'],
  ['only data-only layers', 'datadir+=A,datadir+=C', 'EINVAL lowerdir: no normal layer'],
  ['lowerdir+ after lowerdir', 'lowerdir=A:B,lowerdir+=C', 'EINVAL lowerdir+=C: comes after lowerdir'],
  ['datadir+ after lowerdir', 'lowerdir=A:B,datadir+=C', 'EINVAL datadir+=C: comes after lowerdir'],
  [
    'lowerdir+ after datadir+',
    'lowerdir+=A,datadir+=C,lowerdir+=B',
    'EINVAL lowerdir+=B: a normal layer after a data-only one',
  ],
  ['an empty lowerdir+', 'lowerdir+=A,lowerdir+=', 'EINVAL lowerdir+: needs a value'],
  ['one lowerdir+', 'lowerdir+=A', 'EINVAL lowerdir: a stack needs two layers at least'],
  ['500 layers', `lowerdir=${many(500)}`, many(500)],
  ['501 layers', `lowerdir=${many(501)}`, 'EINVAL lowerdir: 501 layers, more than 500'],
  ['500 layers with data', `lowerdir=${many(499)}::C`, `${many(499)}::C`],
  ['501 layers with data', `lowerdir=${many(500)}::C`, 'EINVAL lowerdir: 501 layers, more than 500'],
  ['an unknown option', 'lowerdir=A:B,frobnicate=on', 'EINVAL frobnicate: unknown'],
  ['an unknown flag', 'lowerdir=A:B,frobnicate', 'EINVAL frobnicate: unknown'],
  ['a wrong switch', 'lowerdir=A:B,metacopy=yes', 'EINVAL metacopy=yes: not one of on, off'],
  ['a switch without a value', 'lowerdir=A:B,metacopy', 'EINVAL metacopy: needs a value'],
  ['a flag with a value', 'lowerdir=A:B,userxattr=on', 'EINVAL userxattr: takes no value'],
  ['a flag with an empty value', 'lowerdir=A:B,userxattr=', 'EINVAL userxattr: takes no value'],
  [
    'a wrong redirect_dir',
    'lowerdir=A:B,redirect_dir=yes',
    'EINVAL redirect_dir=yes: not one of on, off, follow, nofollow',
  ],
  ['a wrong verity', 'lowerdir=A:B,verity=yes', 'EINVAL verity=yes: not one of off, on, require'],
  ['empty options and empty keys are nothing', ',lowerdir=A:B,,=x,', 'A:B'],
  [
    'without effect',
    'lowerdir=A:B,index=on,workdir=C,volatile,uuid=on,xino=on,nfs_export=off,default_permissions',
    'A:B',
  ],
  ['override_creds', 'lowerdir=A:B,override_creds', 'A:B'],
  [
    'an upper without a work directory',
    'lowerdir=A,upperdir=B',
    'EINVAL upperdir: needs workdir, an empty directory on the same mount',
  ],
  [
    'metacopy without followed redirects',
    'lowerdir=A:B,metacopy=on,redirect_dir=nofollow',
    'EINVAL metacopy=on: conflicts with redirect_dir=nofollow',
  ],
  ['userxattr and metacopy', 'lowerdir=A:B,userxattr,metacopy=on', 'EINVAL userxattr: conflicts with metacopy=on'],
  [
    'userxattr and redirects',
    'lowerdir=A:B,userxattr,redirect_dir=on',
    'EINVAL userxattr: conflicts with redirect_dir, which follows redirects',
  ],
  [
    'userxattr and redirect_dir=off',
    'lowerdir=A:B,userxattr,redirect_dir=off',
    'EINVAL userxattr: conflicts with redirect_dir, which follows redirects',
  ],
  ['userxattr and nofollow', 'lowerdir=A:B,userxattr,redirect_dir=nofollow', 'A:B'],
  ['userxattr and verity', 'lowerdir=A::C,userxattr,verity=on', 'A::C'],
  ['data without metacopy', 'lowerdir=A::C,metacopy=off,redirect_dir=nofollow', 'A::C'],
] as const;

t.test('layers', async t => {
  for (const [rule, text, want] of layerRows) {
    t.equal(
      outcome(() => written(stackOf(text).layers)),
      want,
      rule,
    );
  }
});

t.test('the kernel refuses what we refuse', { skip: kernelMissing() }, async t => {
  const at = mkdtempSync(join(tmpdir(), 'lowerdata-options-'));
  const before = process.cwd();
  const names = [
    'A',
    'B',
    'C',
    'D',
    'with:colon',
    'with,comma',
    'with\\backslash',
    'with\\:colon',
    'sp%20ace',
    'x=y',
    'with',
  ];
  for (const name of ['mnt', ...names, 'x054y', 'x\ny', '"A:B"', 'end:', ...many(501).split(':')])
    mkdirSync(join(at, name));
  process.chdir(at);
  for (const [rule, text, want] of layerRows) {
    if (rule === 'quotes are bytes') continue; // one layer only: refused for another reason
    const result = native.mount('none', 'mnt', 'overlay', 1, text);
    if (result === 0) native.umount('mnt', 0);
    t.equal(result === -EINVAL, want.startsWith('EINVAL'), `${rule}: ${result}`);
  }
  process.chdir(before);
  rmSync(at, { recursive: true });
});

function kernelMissing(): string | false {
  if (process.getuid?.() !== 0) return 'mounting overlayfs needs root';
  const at = mkdtempSync(join(tmpdir(), 'lowerdata-options-'));
  for (const name of ['A', 'B', 'mnt']) mkdirSync(join(at, name));
  const result = native.mount('none', join(at, 'mnt'), 'overlay', 1, `lowerdir=${at}/A:${at}/B`);
  if (result === 0) native.umount(join(at, 'mnt'), 0);
  rmSync(at, { recursive: true });
  return result === 0 ? false : `no overlayfs here: errno ${-result}`;
}

t.test('features', async t => {
  const features = (options: StackOptions): string =>
    `${options.metacopy ? 'metacopy' : '-'} ${options.redirectDir} verity=${options.verity} ${options.redirects}`;
  for (const [rule, text, want] of [
    ['kernel modules as they come', 'lowerdir=A:B', '- follow verity=off kernel'],
    ['redirect_dir=off is the module parameter', 'lowerdir=A:B,redirect_dir=off', '- follow verity=off kernel'],
    ['nofollow', 'lowerdir=A:B,redirect_dir=nofollow', '- nofollow verity=off kernel'],
    ['on follows', 'lowerdir=A:B,redirect_dir=on', '- follow verity=off kernel'],
    ['metacopy follows', 'lowerdir=A:B,metacopy=on', 'metacopy follow verity=off kernel'],
    ['metacopy and off', 'lowerdir=A:B,metacopy=on,redirect_dir=off', 'metacopy follow verity=off kernel'],
    ['the last value wins', 'lowerdir=A:B,metacopy=on,metacopy=off', '- follow verity=off kernel'],
    ['userxattr follows nothing', 'lowerdir=A:B,userxattr', '- nofollow verity=off kernel'],
    ['verity', 'lowerdir=A:B,verity=require', '- follow verity=require kernel'],
    ['a policy', 'lowerdir=A:B,redirects=strict', '- follow verity=off strict'],
  ] as const) {
    t.equal(features(stackOf(text)), want, rule);
  }
  for (const [rule, defaults, text, want] of [
    ['a stack of directories', STACK_DEFAULTS, 'lowerdir=A', 'metacopy follow verity=on kernel'],
    ['an image', IMAGE_DEFAULTS, 'lowerdir=A', 'metacopy follow verity=on data-only'],
    [
      'nofollow switches a default metacopy off',
      STACK_DEFAULTS,
      'lowerdir=A,redirect_dir=nofollow',
      '- nofollow verity=on kernel',
    ],
    [
      'an option beats the default',
      IMAGE_DEFAULTS,
      'lowerdir=A,redirects=kernel,verity=off',
      'metacopy follow verity=off kernel',
    ],
    [
      'a digest of the image requires digests of its files',
      IMAGE_DEFAULTS,
      `lowerdir=A,digest=${'0a'.repeat(32)}`,
      'metacopy follow verity=require data-only',
    ],
    [
      'unless told otherwise',
      IMAGE_DEFAULTS,
      `lowerdir=A,verity=on,digest=${'0a'.repeat(32)}`,
      'metacopy follow verity=on data-only',
    ],
    ['userxattr', STACK_DEFAULTS, 'lowerdir=A,userxattr', '- nofollow verity=on kernel'],
  ] as const) {
    t.equal(features(stackOf(text, defaults)), want, rule);
  }
  const [sha256, sha512] = ['0a'.repeat(32), '0a'.repeat(64)];
  for (const [rule, text, want] of [
    ['a digest of SHA-256', sha256, sha256],
    ['in lower case', sha256.toUpperCase(), sha256],
    ['with the name of the algorithm', `sha256:${sha256}`, sha256],
    ['a digest of SHA-512', sha512, sha512],
    ['with its name', `sha512:${sha512}`, sha512],
  ] as const)
    t.equal(stackOf(`lowerdir=A:B,digest=${text}`).imageDigest, want, rule);
  for (const [rule, text] of [
    ['a short digest', '0a'],
    ['the name of another algorithm', `sha512:${sha256}`],
    ['an unknown algorithm', `md5:${sha256}`],
  ] as const) {
    const message = new RegExp(`^EINVAL digest=${text}: not the 64`);
    t.match(
      outcome(() => String(stackOf(`lowerdir=A:B,digest=${text}`))),
      message,
      rule,
    );
  }
  t.equal(stackOf('lowerdir=A:B').semantics, 'lowerdata');
  t.equal(stackOf('lowerdir=A:B,semantics=kernel').semantics, 'kernel');
});

t.test('the source of a mount and its object directories', async t => {
  t.equal(written(parseLowerdir('A:B::C\\:D')), 'A:B::C:D');
  t.equal(
    outcome(() => written(parseLowerdir('', 'SOURCE'))),
    'EINVAL SOURCE=: no layer, at byte 0',
  );
  const draft = new StackDraft();
  t.equal(draft.hasLayers, false);
  draft.replaceLayers('image');
  t.equal(draft.hasLayers, true);
  t.equal(written(draft.finish(IMAGE_DEFAULTS, ['/objects', '/more']).layers), 'image::/objects::/more');
});

t.test('what is escaped is read as it was', async t => {
  const byte = fc.integer({ min: 1, max: 255 }).map(code => String.fromCharCode(code));
  const letter = fc.oneof(fc.constantFrom(':', ',', '\\', '"', '=', '\n', ' '), byte);
  const path = fc.array(letter, { minLength: 1, maxLength: 12 }).map(letters => letters.join(''));
  const escaped = (path: string): string => path.replace(/[\\:,]/g, '\\$&');
  const stacks = fc.tuple(fc.array(path, { minLength: 1, maxLength: 4 }), fc.array(path, { maxLength: 3 }));
  const splits = fc.property(stacks, ([normal, data]) => {
    const text = [normal.map(escaped).join(':'), ...data.map(escaped)].join('::');
    const [option, ...others] = splitOptions(`lowerdir=${text}`);
    const layers = parseLowerdir(option?.value ?? '').map(({ path, dataOnly }) => [path, dataOnly]);
    const wanted = [...normal.map(path => [path, false]), ...data.map(path => [path, true])];
    return others.length === 0 && JSON.stringify(layers) === JSON.stringify(wanted);
  });
  fc.assert(splits, { numRuns: 2000 });
  t.pass('any path of any layer');
});
