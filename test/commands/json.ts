/** Proves that what every command prints with --json is what its schema in docs/schemas says, and that the schemas can fail. */
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import t, { type Test } from 'tap';
import { commandNames, optionNames } from '../fixtures/help.ts';
import { scratch } from '../fixtures/layers.ts';
import { packageFolder, withMount } from '../fixtures/mounts/mounted.ts';
import { member } from '../fixtures/oci/archives.ts';
import { archiveOf, writeImage, writeIndex } from '../fixtures/oci/layout.ts';
import { writeSeal } from '../fixtures/oci/sealed.ts';
import { withoutSplitstreams } from '../fixtures/oci/splitstreams.ts';
import { makeStore, putImage, recordImage } from '../fixtures/oci/stored.ts';
import { runCommand } from '../fixtures/run-command.ts';
import { withoutFuse } from '../fixtures/skips.ts';

t.setTimeout(300_000);

type Json = string | number | boolean | null | Json[] | { [key: string]: Json };
type Fields = { [key: string]: Json };
const isFields = (value: Json | undefined): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

// ---- the schemas ---------------------------------------------------------------------------------------------------

const COMMON = 'common.json';
const folder = join(packageFolder, 'docs', 'schemas');
const schemas = new Map(
  readdirSync(folder).map(name => [name, JSON.parse(readFileSync(join(folder, name), 'utf8')) as Fields]),
);

const ajv = new Ajv2020({ strict: true, strictRequired: false, allowUnionTypes: true, allErrors: true });
ajv.addSchema(schemas.get(COMMON) ?? {}, COMMON);
const validators = new Map<string, ValidateFunction>();
for (const [name, schema] of schemas)
  if (name !== COMMON) validators.set(name.replace('.json', ''), ajv.compile(schema));

const isRight = (command: string, value: Json): boolean => validators.get(command)?.(value) === true;

/** All schemas within a schema, with their places. */
function* subschemas(value: Json | undefined, place: string): Generator<[string, Fields]> {
  if (isFields(value)) yield [place, value];
  if (typeof value === 'object' && value !== null)
    for (const [key, inner] of Object.entries(value)) yield* subschemas(inner, `${place}/${key}`);
}

/** What a reference leads to. */
function referred({ $ref }: Fields, file: string): [Json | undefined, string] {
  const [other = '', ...path] = String($ref).split(/#?\//);
  const schema: Json | undefined = schemas.get(other || file);
  return [path.reduce<Json | undefined>((at, key) => (isFields(at) ? at[key] : at), schema), other || file];
}

/** Whether a schema has a description, or one that it refers to. */
const isDescribed = (schema: Json | undefined, file: string): boolean =>
  isFields(schema) && ('description' in schema || ('$ref' in schema && isDescribed(...referred(schema, file))));

t.strictSame(
  [...validators.keys()].sort(),
  commandNames()
    .filter(name => optionNames(name).includes('--json'))
    .sort(),
  'the commands whose help has --json are those that have a schema',
);
for (const [file, schema] of schemas)
  for (const [place, { properties, additionalProperties, unevaluatedProperties }] of subschemas(schema, file)) {
    if (!isFields(properties) || /\/properties$/.test(place)) continue;
    if (place !== `${COMMON}/$defs/finding`)
      t.ok(additionalProperties === false || unevaluatedProperties === false, `${place} takes no other keys`);
    const silent = Object.keys(properties).filter(key => !isDescribed(properties[key], file));
    t.strictSame(silent, [], `${place}: each key is described`);
  }

/** An array of a document. */
const list = (one: Fields | undefined, key: string): Fields[] => one?.[key] as Fields[];

// ---- the inputs ----------------------------------------------------------------------------------------------------

/** More than the workloads of data need. */
const LARGE_BYTES = 5_000_000;
const zeros = '0'.repeat(64);
/** All types of files, a time before 1970 and one beyond 2^53, objects that are good, damaged, missing, and without a digest. */
const dump = (digest: string): string => `/ 4096 40755 3 0 0 0 0.0 - - -
/blk 0 60644 1 0 0 2049 -2.500000000 - - -
/chr 0 20644 1 0 0 259 7.0 - - -
/dir 0 40755 2 1 2 0 7.0 - - - user.a=b\\x00\\xff
/fifo 0 10644 1 0 0 0 7.0 - - -
/file 5 100644 2 0 0 0 7.000000001 - hello -
/good 4 100644 1 0 0 0 7.0 aa/good - ${digest}
/hard 0 @100644 - - - - 0.0 /file - -
/damaged 4 100644 1 0 0 0 7.0 aa/damaged - ${zeros}
/gone 4 100644 1 0 0 0 7.0 aa/gone - ${zeros}
/link 4 120777 1 0 0 0 9007199254740993.5 file - -
/odd\\xff\\n 4 100644 1 0 0 0 7.0 aa/good - -
/sock 0 140755 1 0 0 0 7.0 - - -
`;
const PATHS = ' blk chr dir fifo file good hard damaged gone link sock none'.split(' ');

/** Its file leads to its data by an origin. */
const BY_ORIGIN = `/ 4096 40755 2 0 0 0 0.0 - - -
/f 9 100644 1 0 0 0 0.0  - - trusted.overlay.origin=\\x00\\xfb\n`;

/** Images with their objects and a directory, in the current directory. */
function fill(): void {
  mkdirSync('objects/aa', { recursive: true });
  mkdirSync('tree/dir', { recursive: true });
  for (const name of ['good', 'damaged']) writeFileSync(`objects/aa/${name}`, 'data');
  writeFileSync('policy.json', '{"default": [{"type": "insecureAcceptAnything"}]}');
  writeFileSync('tree/file', 'other');
  writeFileSync('tree/large', Buffer.alloc(LARGE_BYTES, 'large'));
  const digest = runCommand(['info', 'measure-file', 'objects/aa/good']).stdout.trim();
  for (const [name, input] of [
    ['image', dump(digest)],
    ['by-origin', BY_ORIGIN],
  ] as const) {
    const { stderr } = runCommand(['mkfs', '--from-file', '-', name], { input });
    if (stderr) throw new Error(stderr);
  }
  const names = ['usr/own', 'usr/.wh.own']; // by one rule for whiteouts the file is hidden
  const layer = archiveOf(member({ name: 'usr/', type: '5' }), ...names.map(name => member({ name })));
  const subject = writeImage('layout', [layer]);
  writeIndex('layout', [subject, writeSeal('layout', subject, digest)]);
  makeStore('store');
  if (withoutSplitstreams) return;
  const { image, objects } = putImage('store', { file: 'x'.repeat(100) });
  const words = ['a'];
  recordImage('store', {
    ...{ tag: 'recorded', image, layers: [objects] },
    config: {
      ...{ created: '2024-05-06T07:08:09Z', author: 'a', os: 'linux', architecture: 'amd64' },
      config: {
        ...{ User: 'a', WorkingDir: '/', StopSignal: 'SIGINT', Entrypoint: words, Cmd: words, Env: words },
        ...{ ExposedPorts: { '80/tcp': {} }, Volumes: { '/data': {} }, Labels: { a: 'b' } },
      },
    },
    manifest: { annotations: { a: 'b' } },
  });
}

/** What the commands printed that was right, for the tests of what is wrong. */
const printed = new Map<string, Fields[]>();

/** Runs a command with --json and holds what it prints against its schema. @returns its documents */
function documents(t: Test, format: 'document' | 'lines', [command = '', ...args]: string[]): Fields[] {
  const words = `${command} --json ${args.join(' ')}`;
  const { stdout: bytes, stderr } = runCommand([command, '--json', ...args]);
  if (bytes === '') throw new Error(`${words}: ${stderr}`);
  const stdout = Buffer.from(bytes, 'latin1').toString();
  const texts = format === 'lines' ? stdout.split('\n').filter(line => line !== '') : [stdout];
  const found = texts.map(text => JSON.parse(text) as Fields);
  for (const [i, one] of found.entries()) {
    const errors = isRight(command, one) ? [] : (validators.get(command)?.errors ?? []);
    t.strictSame(
      errors.map(({ instancePath, message }) => `${instancePath} ${message}`),
      [],
      `${words}: ${i}`,
    );
    t.match(texts[i], /^\{\s*"version": ?1,/, 'the version is first');
  }
  printed.set(command, [...(printed.get(command) ?? []), ...found]);
  return found;
}

// ---- the commands --------------------------------------------------------------------------------------------------

t.test('commands without a mount', async t => {
  process.chdir(scratch(t));
  t.teardown(() => process.chdir('/'));
  fill();
  const [stack, paths] = ['image::objects', PATHS.map(name => `/${name}`)];
  for (const args of [
    ['stat', stack, ...paths],
    ['stat', '-L', 'tree', '/dir', '/file'],
    ['stat', 'tree', '/none'],
    ['info', 'ls', 'image'],
    ['info', 'dump', 'image', 'by-origin'],
    ['info', 'dump', 'none'],
    ['info', 'objects', 'image'],
    ['info', '--basedir=objects', 'missing-objects', 'image'],
    ['info', 'measure-file', 'image', 'tree/file'],
    ['info', '--algorithm=sha512', 'measure-file', 'image'],
    ['compare', 'image', 'tree'],
    ['compare', 'image', stack],
    ['compare', 'tree', 'tree'],
    ['pull', 'oci:layout', '--store=store', '--name=test'],
    ['pull', 'oci:layout', '--store=store', '--name=test', '--layers'],
    ['pull', 'oci:layout', '--store=store', '--whiteouts=composefs-rs'],
    ['policy', 'check', 'image', '--policy=policy.json'],
    ['gc', '--dry-run', '--store=store'],
    ['gc', '--store=store'],
    ['doctor', 'tree', 'none'],
  ])
    documents(t, 'document', args);
  for (const args of [
    ['explain', stack, ...paths],
    ['explain', '--measure', '--kernel=6.1', stack, ...paths],
    ['explain', 'tree:image::objects', ...paths],
    ['check', stack],
    ['check', 'image'],
    ['check', '--kernel=6.1', stack],
    ['fsck', stack],
    ['fsck', 'image'],
    ['fsck', 'tree'],
    ['fsck', '--store=store'],
  ])
    documents(t, 'lines', args);

  const types = (of: Fields[]): string[] =>
    of.flatMap(({ path, type }) => (path === '/odd\\xff\\x0a' ? [] : [`${path} ${type}`])).sort();
  const [stat] = documents(t, 'document', ['stat', stack, ...paths]);
  const [dump] = documents(t, 'document', ['info', 'dump', 'image']);
  const entries = list(list(dump, 'images')[0], 'entries');
  t.strictSame(types(list(stat, 'files')), types(entries), 'stat and info have the same words for types');
  const [explained] = documents(t, 'lines', ['explain', stack, '/sock']);
  t.match(explained, { lookups: [{ events: [{}, { found: 'socket' }] }] }, 'and so has explain');
  t.match(entries.find(({ path }) => path === '/link')?.mtime, '9007199254740993.000000005', 'a time beyond 2^53');
  t.equal(entries.find(({ path }) => path === '/blk')?.mtime, '-2.500000000', 'a time before 1970');
});

t.test('mounts', { skip: withoutFuse }, async t => {
  process.chdir(scratch(t));
  t.teardown(() => process.chdir('/'));
  fill();
  await withMount(['image'], async withoutObjects => {
    await withMount(['tree', '-o', 'verify=read,confine=off'], async root => {
      readFileSync(join(root, 'file'));
      const [one] = documents(t, 'document', ['status', root]);
      documents(t, 'document', ['status', withoutObjects]);
      runCommand(['pull', 'oci:layout', '--store=store', '--name=test']);
      await withMount(['test', '-o', 'store=store'], async stored => void documents(t, 'document', ['status', stored]));
      documents(t, 'document', ['status']);
      const [{ pid, startedAt } = {}] = list(one, 'mounts');
      t.ok(Math.abs(Number(startedAt) - Date.now() / 1000) < 300, 'a time in seconds');
      process.kill(Number(pid), 'SIGSTOP');
      const [stopped] = documents(t, 'document', ['status', root]);
      process.kill(Number(pid), 'SIGCONT');
      t.match(stopped?.mounts, [{ pid, process: null }], 'a daemon that does not answer');
      const record = `/run/lowerdata/${pid}.json`;
      renameSync(record, `${record}.kept`);
      const [unknown] = documents(t, 'document', ['status', root]);
      renameSync(`${record}.kept`, record);
      t.match(unknown?.mounts, [{ pid: null, startedAt: null }], 'a mount without a record');
    });
  });
  const [bench] = documents(t, 'document', [
    ...['bench', 'tree', '--rounds', '1', '--targets', 'lowerdata', '--peer', 'broken=false {stack} {mnt}'],
    ...['--workloads', 'stat,sequential'],
  ]);
  t.ok(list(bench, 'rows').length > 1, 'rows of a benchmark');
});

// ---- what is wrong -------------------------------------------------------------------------------------------------

/** Copies of a document, each with one mistake: a key too many in one object, or another type for one value. */
function* mistakes(value: Json, place = ''): Generator<[string, Json]> {
  if (place !== '') yield [place, [[true]]];
  if (typeof value !== 'object' || value === null) return;
  if (isFields(value)) yield [`${place}/unknown`, { ...value, unknown: true }];
  for (const [key, inner] of Object.entries(value).slice(0, 20))
    for (const [where, wrong] of mistakes(inner, `${place}/${key}`))
      yield [where, Array.isArray(value) ? value.with(Number(key), wrong) : { ...value, [key]: wrong }];
}

/** The keys of all objects within a value. */
const keysWithin = (value: Json): string[] =>
  typeof value !== 'object' || value === null
    ? []
    : [...(Array.isArray(value) ? [] : Object.keys(value)), ...Object.values(value).flatMap(keysWithin)];

t.test('schemas name nothing that is not printed', async t => {
  for (const [command, documents] of printed) {
    if (command === 'inspect' && withoutSplitstreams)
      t.comment(`inspect of a manifest is left out: ${withoutSplitstreams}`);
    if (command === 'inspect' && withoutSplitstreams) continue;
    const seen = new Set(keysWithin(documents));
    const file = `${command}.json`;
    const named = [...subschemas(schemas.get(file), file)].flatMap(([place, { properties }]) =>
      isFields(properties) && !place.endsWith('/properties') ? Object.keys(properties) : [],
    );
    t.strictSame(
      named.filter(key => !seen.has(key)),
      [],
      command,
    );
  }
});

t.test('wrong documents', async t => {
  for (const [command, documents] of printed) {
    let tried = 0;
    const accepted = new Set<string>();
    for (const one of documents)
      for (const [place, wrong] of mistakes(one)) {
        tried++;
        if (isRight(command, wrong)) accepted.add(place);
      }
    t.ok(tried > 10, `${command}: ${tried} documents`);
    t.strictSame([...accepted], [], `${command}: each is refused`);
    const [{ version: _, ...rest } = {}] = documents;
    t.notOk(isRight(command, rest), `${command}: no version`);
    t.notOk(isRight(command, { ...rest, version: 2 }), `${command}: another version`);
  }
  const [stat] = printed.get('stat') ?? [];
  const [file] = list(stat, 'files');
  for (const [key, value] of [
    ['type', 'dir'],
    ['mode', '755'],
    ['mtime', 7],
    ['mtime', '7'],
    ['mtime', '7.0'],
    ['size', -1],
    ['device', '1, 3'],
  ] as const)
    t.notOk(isRight('stat', { version: 1, files: [{ ...file, [key]: value }] }), `${key}: ${JSON.stringify(value)}`);
});

t.end();
