/** Policies: their grammar, which scope counts, and what is mounted and pulled. */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parseReference } from '../../src/oci/reference.ts';
import { parsePolicy } from '../../src/policy/grammar.ts';
import { placeOfReference } from '../../src/policy/scopes.ts';
import { scratch } from '../fixtures/layers.ts';
import { noProgram } from '../fixtures/mounts/kernel-mount.ts';
import { command, withMount } from '../fixtures/mounts/mounted.ts';
import { makeSealedLayout } from '../fixtures/oci/sealed.ts';
import { type Result, runCommand } from '../fixtures/run-command.ts';
import { without, withoutFuse } from '../fixtures/skips.ts';

t.setTimeout(180_000);
const REJECT = [{ type: 'reject' }];
const ACCEPT = [{ type: 'insecureAcceptAnything' }];

t.test('grammar: what skopeo refuses, too', async t => {
  const noSkopeo = noProgram('skopeo');
  const home = scratch(t);
  const file = join(home, 'policy.json');
  for (const [rule, text, message] of [
    ['no JSON', '{', /no JSON/],
    ['no default', '{}', /^policy p: default: is missing$/],
    ['an empty list', '{"default":[]}', /is empty/],
    ['an unknown field', '{"default":[{"type":"reject"}],"x":1}', /^policy p: x: is not known$/],
    ['an unknown field of a requirement', '{"default":[{"type":"reject","x":1}]}', /default\.0\.x: is not known$/],
    ['an unknown requirement', '{"default":[{"type":"nope"}]}', /default\.0\.type/],
    ['a field twice', '{"default":[{"type":"reject"}],"default":[{"type":"insecureAcceptAnything"}]}', /twice/],
    ['a field of a requirement twice', '{"default":[{"type":"reject","type":"reject"}]}', /twice/],
    ['the same by an escape', '{"default":[{"type":"reject"}],"\\u0064efault":[{"type":"reject"}]}', /twice/],
  ] as const) {
    t.throws(() => parsePolicy(Buffer.from(text), 'policy p'), { message }, rule);
    writeFileSync(file, text);
    if (noSkopeo) continue;
    const { stderr } = spawnSync('skopeo', ['--policy', file, 'copy', 'dir:/none', 'dir:/none2'], { encoding: 'utf8' });
    t.match(stderr, 'Error loading trust policy', `skopeo: ${rule}`);
  }
  if (noSkopeo) t.comment(noSkopeo);
  for (const name of ['__proto__', 'constructor'])
    t.throws(() => parsePolicy(Buffer.from(`{"default":[{"type":"reject"}],"transports":{"${name}":{}}}`), 'p'), {
      message: /no name of a field/,
    });
});

t.test('scopes, as containers-policy.json(5) has them', async t => {
  const home = realpathSync(scratch(t));
  mkdirSync(join(home, 'a/b'), { recursive: true });
  for (const [reference, want] of [
    ['docker://busybox', 'docker.io/library/busybox:latest docker.io/library/busybox docker.io/library docker.io *.io'],
    [
      'docker://hostname:5000/myns/official:v1',
      'hostname:5000/myns/official:v1 hostname:5000/myns/official hostname:5000/myns hostname:5000',
    ],
    [
      'docker://a.my.example.com:1/x',
      'a.my.example.com:1/x:latest a.my.example.com:1/x a.my.example.com:1 *.my.example.com *.example.com *.com',
    ],
    [`dir:${home}/a/../a/b`, `${home}/a/b ${home}/a ${home}`],
    [`oci:${home}/a/b:v1`, `${home}/a/b:v1 ${home}/a/b ${home}/a ${home}`],
    [`docker-archive:${home}/a`, ''],
  ] as const) {
    const { scopes } = placeOfReference(parseReference(reference));
    t.equal(scopes.join(' ').slice(0, want.length), want, reference);
  }
});

const noOpenssl = without('openssl');
t.test('what is allowed', { skip: noOpenssl }, async t => {
  const home = realpathSync(scratch(t));
  const at = (name: string): string => join(home, name);
  const sealed = makeSealedLayout(home);
  const { layout, seal, digest } = sealed;
  sealed.list(seal);
  const call = (...args: string[]): Result => runCommand(args, { directory: home });
  const write = (name: string, transports: object, otherwise: object[] = REJECT): void =>
    writeFileSync(at(name), JSON.stringify({ default: otherwise, transports }));
  const signed = (keys: string): object[] => [{ type: 'composefsSigned', keyDirectories: [at(keys)] }];
  mkdirSync(at('mnt'));
  mkdirSync(at('none'));
  t.match(call('pull', `oci:${layout}:test`, '--store', 'store', '--name', 'v1'), { status: 0 });
  const image = realpathSync(at(`store/images/${digest}`));
  write('signed', { 'lowerdata-store': { [`[${at('store')}]`]: signed('keys') } });
  write('unknown', { 'lowerdata-store': { [`[${at('store')}]v1`]: signed('none') } });
  write('named', { 'lowerdata-store': { '': REJECT, [`[${at('store')}]v1`]: ACCEPT } });
  write('gpg', { 'lowerdata-store': { '': [{ type: 'signedBy', keyType: 'GPGKeys', keyPath: '/x' }] } }, ACCEPT);
  write('file', { 'lowerdata-image': { [image]: ACCEPT } });
  write('fileSigned', { 'lowerdata-image': { '': signed('keys') } });
  write('all', {}, ACCEPT);
  write('shared', {}, ACCEPT);
  chmodSync(at('shared'), 0o666);
  writeFileSync(at('broken'), '{}');
  const stored = 'store=store';
  const stack = `${image}::store/objects`;
  mkdirSync(at('dir'));
  for (const [rule, source, options, status, stderr] of [
    ['signed by a key that counts', 'v1', `${stored},policy=signed`, 0, ''],
    ['no key', 'v1', `${stored},policy=unknown`, 32, 'there is no key in'],
    ['allowed by name', 'v1', `${stored},policy=named`, 0, ''],
    ['another name falls to the transport', digest, `${stored},policy=named`, 32, 'reject: no image is allowed'],
    ['signatures of another kind', 'v1', `${stored},policy=gpg`, 32, 'does not check signatures of this kind'],
    ['default', 'v1', `${stored},policy=file`, 32, 'by its default'],
    ['a file', stack, 'policy=file', 0, ''],
    ['a file without a signature', stack, 'policy=fileSigned', 32, 'option signature=FILE names it'],
    ['an image below', `./dir:${stack}`, 'policy=signed', 32, 'by its default'],
    ['an image below cannot be signed', `./dir:${stack}`, 'policy=fileSigned', 32, 'none can vouch'],
    ['data that is an image', `./dir::${image}`, 'policy=signed', 32, 'by its default'],
    ['directories', 'dir::store/objects', 'policy=signed', 0, ''],
    ['all', stack, 'policy=all', 0, ''],
    ['a policy that others can write', 'v1', `${stored},policy=shared`, 32, 'is writable by everyone'],
    ['a policy that is none', 'v1', `${stored},policy=broken`, 32, 'policy broken: '],
    ['a policy that is missing', 'v1', `${stored},policy=nope`, 32, 'policy nope: No such file'],
  ] as const) {
    const mounted = call('mount', source, 'mnt', '-o', options, '--fake');
    t.match(mounted, { status, stderr }, `mount: ${rule}`);
    t.match(call('ls', source, '/', '-o', options).status === 0, status === 0, `ls: ${rule}`);
    const checked = call('policy', 'check', source, '-o', options);
    t.equal(checked.status, /policy (shared|broken|nope)/.test(checked.stderr) ? 1 : status, `check: ${rule}`);
  }
  t.match(call('policy', 'check', 'v1', '-o', `${stored},policy=signed`), {
    stdout: `lowerdata-store "[${at('store')}]v1": no rule\n  lowerdata-store "[${at('store')}]": this rule counts\n    composefsSigned: holds: ${at('keys')}/signer.pem (CN=signer) has signed sha256:${digest}\n`,
  });
  await t.test('mounts', { skip: withoutFuse }, t => {
    process.chdir(home);
    t.teardown(() => process.chdir('/'));
    t.match(call('mount', 'v1', 'mnt', '-o', `${stored},policy=unknown`), { status: 32 });
    t.notMatch(readFileSync('/proc/self/mountinfo', 'utf8'), at('mnt'), 'nothing is mounted');
    return withMount(['v1', '-o', `${stored},policy=signed`], root => {
      const [mount] = JSON.parse(command('status', '--json', root)).mounts;
      t.match(mount, { protection: { metadata: 'digest', required: true } });
    });
  });
  await t.test('pulls', async t => {
    const pull = (policy: string, store: string): Result =>
      call('pull', `oci:${layout}:test`, '--store', store, '--name', 'v1', '--policy', policy);
    t.match(pull('all', 'p1'), { status: 0 });
    t.match(pull('file', 'p2'), { status: 32, stderr: 'reject: no image is allowed' });
    t.notOk(existsSync(at('p2')), 'nothing is made');
    write('pullSigned', { oci: { [realpathSync(layout)]: signed('keys') } });
    write('pullUnknown', { oci: { [home]: signed('none') } });
    t.match(pull('pullSigned', 'p3'), { status: 0 });
    t.match(pull('pullUnknown', 'p4'), { status: 32, stderr: 'there is no key in' });
    t.strictSame(call('images', '--store', 'p3').stdout === '', false);
    t.match(call('ls', 'v1', '/', '-o', 'store=p4'), { stderr: 'no image has the name v1' }, 'no name');
    t.match(call('policy', 'check', `oci:${layout}:test`, '--policy', 'pullSigned'), {
      status: 0,
      stdout: 'not known yet',
    });
  });
});
