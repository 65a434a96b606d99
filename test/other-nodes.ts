/** Runs tests of what depends on Node.js, its event loop, V8 and the addon's interface, under its later long-term versions. */
import { spawnSync } from 'node:child_process';
import { chmodSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import t from 'tap';
import { scratch } from './fixtures/layers.ts';
import { packageFolder } from './fixtures/mounts/mounted.ts';

t.setTimeout(900_000);

const VERSIONS = ['22', '24'];
const FILES = [
  'sys/event-loop',
  'sys/native',
  'sys/native-files',
  'verity/hash',
  'mount/launch',
  'mount/control-socket',
  'trust/digests',
  'oci/decompress',
  'oci/registry/faults',
  'oci/registry/tls',
  'seal/keys',
  'seal/signature',
];
const DOWNLOAD_MS = 200_000;

for (const version of VERSIONS) {
  const home = scratch(t);
  chmodSync(home, 0o755); // ordinary users run it, too
  const name = `node-linux-${process.arch}`;
  const words = ['install', '--no-save', '--no-audit', '--no-fund', '--silent', '--prefix', home, `${name}@${version}`];
  const { status } = spawnSync('npm', words, { timeout: DOWNLOAD_MS });
  const skip = status === 0 ? false : `npm finds no ${name}@${version} here`;
  t.test(`Node.js ${version}`, { skip }, async t => {
    const path = `${join(home, 'node_modules', name, 'bin')}${delimiter}${process.env.PATH}`;
    const run = (...words: string[]) =>
      spawnSync('node', words, { env: { ...process.env, PATH: path, TAP_TIMEOUT: '300' }, encoding: 'utf8' });
    t.match(run('--version').stdout, `v${version}.`);
    for (const file of FILES) {
      const { status, stdout } = run(join(packageFolder, 'dist', 'test', `${file}.js`));
      const failures = stdout.split('\n').filter(line => /^ *not ok/.test(line));
      t.equal(status, 0, `${file} ${failures.join('; ')}`);
    }
  });
}
t.end();
