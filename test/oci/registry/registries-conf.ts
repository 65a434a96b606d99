/** Which registries are asked by registries.conf: those that skopeo asks, and what is refused. */
import { execFile } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { endpointsOf } from '../../../src/oci/registry/configuration/endpoints.ts';
import { readRegistriesConf } from '../../../src/oci/registry/configuration/registries.ts';
import { openRegistryImage } from '../../../src/oci/registry/image.ts';
import { parseRegistryReference } from '../../../src/oci/registry/reference.ts';
import { scratch } from '../../fixtures/layers.ts';
import { FakeRegistry } from '../../fixtures/oci/fake-registry.ts';
import { archiveWith, TAG, writeImage, writeIndex } from '../../fixtures/oci/layout.ts';
import { without } from '../../fixtures/skips.ts';

const home = scratch(t);
const layout = join(home, 'layout');
const image = writeImage(layout, [archiveWith('a')]);
writeIndex(layout, [{ ...image, annotations: { [TAG]: 'v1' } }]);
mkdirSync(join(home, 'empty'));
writeIndex(join(home, 'empty'), []);
const full = await FakeRegistry.start(layout);
const empty = await FakeRegistry.start(join(home, 'empty'));
t.teardown(() => [full, empty].map(registry => registry.stop()));
/** What is asked of both, in order. */
const asked: string[] = [];
for (const [name, registry] of [
  ['full', full],
  ['empty', empty],
] as const)
  registry.fault = ({ path }) => {
    if (path.includes('/manifests/')) asked.push(`${name} ${path}`);
    return false;
  };
process.env.HOME = home;
delete process.env.CONTAINERS_REGISTRIES_CONF;
const { digest } = image;
const FULL = full.host;
const EMPTY = empty.host;
const table = (fields: string, ...mirrors: string[]): string =>
  ['[[registry]]', fields, ...mirrors.flatMap(mirror => ['[[registry.mirror]]', mirror])].join('\n');
const mirror = (location: string, more = ''): string => `location = "${location}"\ninsecure = true\n${more}`;
const moved = (prefix: string, location: string, more = ''): string =>
  `prefix = "${prefix}"\n${mirror(location, more)}`;

function configure(files: Readonly<Record<string, string>>): void {
  rmSync(join(home, '.config'), { recursive: true, force: true });
  for (const [name, text] of Object.entries(files)) {
    const path = join(home, '.config/containers', name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }
}

/** Opens an image. @returns what is asked for, and the message of an error */
async function open(name: string, verifies?: boolean): Promise<{ asked: string[]; message?: string }> {
  asked.length = 0;
  const reference = parseRegistryReference(`//${name}`);
  const opened = await openRegistryImage(reference, undefined, { authfile: undefined, verifies }).catch(
    (error: Error) => error,
  );
  if (opened instanceof Error) return { asked: [...asked], message: opened.message };
  opened.source.close();
  return { asked: [...asked] };
}

/** What skopeo asks for. */
function skopeo(name: string): Promise<string[]> {
  asked.length = 0;
  return new Promise(done =>
    execFile(
      'skopeo',
      ['inspect', '--raw', `docker://${name}`],
      { env: { ...process.env, XDG_RUNTIME_DIR: home } },
      () => done([...asked]),
    ),
  );
}

const main = (text: string): Record<string, string> => ({ 'registries.conf': text });
const CASES: readonly (readonly [
  rule: string,
  files: Record<string, string>,
  names: readonly string[],
  count: number,
])[] = [
  [
    'a name that no table has',
    main(table(mirror(`${EMPTY}/x`)) + table(moved('a.example', EMPTY))),
    [`${EMPTY}/x/y:v1`],
    1,
  ],
  [
    'another location',
    main(table(moved('a.example/team', `${FULL}/other/`))),
    ['a.example/team/app:v1', `a.example/team/app@${digest}`],
    1,
  ],
  [
    'mirrors, and the registry itself at last',
    main(
      table(
        moved('a.example', `${FULL}/own`),
        mirror(`${EMPTY}/first`),
        mirror('127.0.0.1:1'),
        mirror(`${EMPTY}/second`),
      ),
    ),
    ['a.example/app:v1', `a.example/app@${digest}`],
    3,
  ],
  [
    'the first mirror that has it',
    main(table(moved('a.example', EMPTY), mirror(EMPTY), mirror(FULL))),
    ['a.example/b/c:v1'],
    2,
  ],
  [
    'mirrors for digests, and for tags',
    main(
      table(
        moved('a.example', FULL),
        mirror(`${EMPTY}/digests`, 'pull-from-mirror = "digest-only"'),
        mirror(`${EMPTY}/tags`, 'pull-from-mirror = "tag-only"'),
      ),
    ),
    ['a.example/app:v1', `a.example/app@${digest}`],
    2,
  ],
  [
    'all mirrors for digests',
    main(table(moved('a.example', FULL, 'mirror-by-digest-only = true'), mirror(EMPTY))),
    ['a.example/app:v1'],
    1,
  ],
  [
    'the longest prefix',
    main(
      `${table(moved('a.example/x', `${EMPTY}/two`))}\n${table(moved('a.example/x/y', `${FULL}/three`))}\n${table(moved('a.example', `${EMPTY}/one`))}`,
    ),
    ['a.example/x/y/z:v1', 'a.example/x/y:v1'],
    1,
  ],
  [
    'a prefix ends where a part of the name ends',
    main(`${table(moved('a.example/x', `${EMPTY}/x`))}\n${table(moved('a.example', `${FULL}/a`))}`),
    ['a.example/xy:v1', 'a.example/x-y:v1'],
    1,
  ],
  ['subdomains', main(table(moved('*.example', `${FULL}/sub`))), ['a.example/app:v1', 'b.a.example/app:v1'], 1],
  ['mirrors of subdomains', main(table('prefix = "*.example"', mirror(FULL))), ['a.example/app:v1'], 1],
  [
    'docker.io',
    main(table(moved('docker.io/library', `${FULL}/lib`))),
    ['app:v1', 'docker.io/app:v1', 'index.docker.io/app:v1'],
    1,
  ],
  [
    'the first version of the format',
    main(`[registries.search]\nregistries = []\n[registries.insecure]\nregistries = ['${FULL}']`),
    [`${FULL}/app:v1`],
    1,
  ],
  [
    'drop-ins',
    {
      ...main(table(moved('a.example', `${EMPTY}/main`))),
      'registries.conf.d/2.conf': table(moved('a.example', `${FULL}/second`)),
      'registries.conf.d/1.conf': table(moved('a.example', `${EMPTY}/first`)),
      'registries.conf.d/3.txt': table(moved('a.example', `${EMPTY}/third`)),
    },
    ['a.example/app:v1'],
    1,
  ],
];

t.test('the registries that skopeo asks', { skip: without('skopeo') }, async t => {
  for (const [rule, files, names, count] of CASES) {
    configure(files);
    for (const name of names) {
      const want = await skopeo(name);
      t.equal(want.length, count, `${rule}: ${name}`);
      t.strictSame((await open(name)).asked, want, want.join(', '));
    }
  }
});

t.test('what is refused', async t => {
  const path = join(home, '.config/containers/registries.conf');
  for (const [text, message] of [
    [table('prefix = "a.example"\nblocked = true'), `docker://a.example/app:v1: a.example is blocked in ${path}`],
    ['[[registry', `${path}: line 1: Invalid TOML document`],
    [table('insecure = true'), `${path}: a [[registry]] without prefix and location`],
    [table('location = 1'), `${path}: registry.0.location: Invalid type: Expected string but received 1`],
    [table('location = "https://a.example"'), `${path}: registry.0.location: is not HOST[:PORT][/PATH]`],
    [table('location = "a"', 'insecure = true'), `${path}: registry.0.mirror.0.location: is missing`],
    [
      table('location = "a"\nmirror-by-digest-only = true', mirror('b', 'pull-from-mirror = "all"')),
      `${path}: a: mirror-by-digest-only and pull-from-mirror at once`,
    ],
    [table(moved('a.example', 'B C')), `${path}: docker://B C/app:v1: its host is none`],
    [
      `${table(mirror('a'))}\n[registries.block]\nregistries = ["b"]`,
      `${path}: has both versions of the format, [registries] and [[registry]]`,
    ],
    ['[registries.block]\nregistries = ["a.example"]', `docker://a.example/app:v1: a.example is blocked in ${path}`],
  ] as const) {
    configure(main(text));
    const { asked, message: got } = await open('a.example/app:v1');
    t.strictSame([asked, got?.slice(0, message.length)], [[], message]);
  }
});

t.test('beyond what skopeo does', async t => {
  configure(main(`${table(moved('a.example/app:v1', `${FULL}/one:v1`))}\n${table(moved('a.example', EMPTY))}`));
  t.strictSame(
    await open('a.example/app:v1'),
    { asked: ['full /v2/one/manifests/v1'] },
    'a prefix with a tag, by the manual',
  );
  const fails = main(table(moved('a.example', `${EMPTY}/own`), mirror('127.0.0.1:1'), mirror(`${EMPTY}/second`)));
  configure(fails);
  const nothing = 'the registry has nothing by this name (404 Not Found, MANIFEST_UNKNOWN)';
  const { message = '' } = await open('a.example/app:v1');
  const [last, first = '', ...more] = message.split('; and before: ');
  t.equal(last, `docker://${EMPTY}/own/app/manifests/v1: ${EMPTY}: ${nothing}`, 'each failure is told');
  t.match(first, /^docker:..127.0.0.1:1.app: 127.0.0.1:1: Connection refused/);
  t.strictSame(more, [`docker://${EMPTY}/second/app/manifests/v1: ${EMPTY}: ${nothing}`]);

  const plain = main(table(moved('a.example', FULL)));
  configure(plain);
  t.strictSame(
    await open('a.example/app:v1', true),
    {
      asked: [],
      message: `docker://${FULL}/app: ${FULL}: it does not speak TLS; --tls-verify=false allows plain HTTP`,
    },
    '--tls-verify counts before insecure',
  );
  configure({});
  t.match(await open(`${FULL}/app:v1`), { asked: [], message: /does not speak TLS/ });
  writeFileSync(join(home, 'named.conf'), plain['registries.conf'] as string);
  process.env.CONTAINERS_REGISTRIES_CONF = join(home, 'named.conf');
  t.strictSame(await open('a.example/app:v1'), { asked: ['full /v2/app/manifests/v1'] }, 'a file that is named');
  process.env.CONTAINERS_REGISTRIES_CONF = join(home, 'no.conf');
  t.match(await open('a.example/app:v1'), { message: `${home}/no.conf: No such file or directory` });
  delete process.env.CONTAINERS_REGISTRIES_CONF;

  configure(main(`${table(moved('a.example', FULL), mirror(FULL))}\n${table(`prefix = "b.example"\nblocked = true`)}`));
  const rules = await readRegistriesConf();
  const named = (name: string) => parseRegistryReference(`//${name}`);
  const sent = [{ reference: named('a.example/app'), insecure: true }];
  t.strictSame(endpointsOf(named('a.example/app'), rules, true), sent, 'what is sent goes to the registry of the name');
  t.throws(() => endpointsOf(named('b.example/app'), rules, true), { name: 'EACCES' });
});
t.end();
