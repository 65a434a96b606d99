/** The header WWW-Authenticate. */
import t from 'tap';
import { parseChallenges } from '../../../src/oci/registry/challenge.ts';

const shown = (header: string): [string, Record<string, string>][] =>
  parseChallenges(header).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);

for (const [rule, header, want] of [
  ['nothing', '', []],
  ['a scheme alone', 'Negotiate', [['negotiate', {}]]],
  // RFC 9110, 11.6.1
  [
    'two challenges',
    'Basic realm="simple", Newauth realm="apps", type=1, title="Login to \\"apps\\""',
    [
      ['basic', { realm: 'simple' }],
      ['newauth', { realm: 'apps', type: '1', title: 'Login to "apps"' }],
    ],
  ],
  // distribution, docs/spec/auth/token.md
  [
    'tokens',
    'Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push"',
    [
      [
        'bearer',
        { realm: 'https://auth.example/token', service: 'registry.example', scope: 'repository:a/b:pull,push' },
      ],
    ],
  ],
  ['spaces and capitals', 'BEARER  Realm = "x" , ,SERVICE=y', [['bearer', { realm: 'x', service: 'y' }]]],
  ['a parameter without a scheme', 'realm="x"', []],
  ['an open quote', 'Basic realm="x', [['basic', {}]]],
  ['what is no challenge after one', 'Basic realm="x", =, Bearer realm="y"', [['basic', { realm: 'x' }]]],
  ['a name of objects', 'Bearer __proto__="x"', [['bearer', Object.fromEntries([['__proto__', 'x']])]]],
] as const)
  t.strictSame(shown(header), want, rule);

for (const header of ['"'.repeat(1e6), 'a="\\'.repeat(1e5), ' ,'.repeat(1e6), 'a '.repeat(1e6), 'a=b '.repeat(1e5)]) {
  const began = process.hrtime.bigint();
  parseChallenges(header);
  t.ok(process.hrtime.bigint() - began < 1_000_000_000n, `${header.slice(0, 4)}… is done at once`);
}
t.end();
