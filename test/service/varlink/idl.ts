/** Proves the text of interfaces with a parser of varlink's grammar in Python. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { describe } from '../../../src/service/varlink/idl.ts';
import { varlinkService } from '../../../src/service/varlink/service.ts';
import { goldenFolder } from '../../fixtures/images/golden-images.ts';
import { python } from '../../fixtures/native.ts';
import { shop } from '../../fixtures/varlink/service.ts';

const parser = readFileSync(join(goldenFolder, '..', 'varlink', 'idl.py'), 'utf8');
const parsed = (text: string): unknown => JSON.parse(python(parser, [text]));
const point = [
  ['x', 'int'],
  ['y', 'int'],
  ['kind', ['?', 'Kind']],
];
const points = ['points', ['?', ['[]', 'Point']]];
const names = ['names', ['?', ['[string]', 'string']]];

for (const [rule, described, want] of [
  [
    'the interface of each service, as https://varlink.org/Service and systemd have it',
    varlinkService,
    {
      name: 'org.varlink.service',
      about:
        'The Varlink Service Interface is provided by every varlink service. It describes the service and the interfaces it implements.',
      type: {},
      method: {
        GetInfo: [
          [],
          [
            ['vendor', 'string'],
            ['product', 'string'],
            ['version', 'string'],
            ['url', 'string'],
            ['interfaces', ['[]', 'string']],
          ],
        ],
        GetInterfaceDescription: [[['interface', 'string']], [['description', 'string']]],
      },
      error: {
        InterfaceNotFound: [['interface', 'string']],
        MethodNotFound: [['method', 'string']],
        MethodNotImplemented: [['method', 'string']],
        InvalidParameter: [['parameter', 'string']],
        PermissionDenied: [],
        ExpectedMore: [],
      },
    },
  ],
  [
    'every type',
    shop,
    {
      name: 'org.example.Shop',
      about: 'For tests.  It sells nothing.',
      type: { Kind: ['near', 'far'], Point: point },
      method: {
        Echo: [
          [
            ...[
              ['text', ['?', 'string']],
              ['number', ['?', 'int']],
              ['half', ['?', 'float']],
              ['is', ['?', 'bool']],
            ],
            ...[['any', ['?', 'object']], points, names, ['verity', ['?', ['off', 'on']]]],
          ],
          [['text', ['?', 'string']], ['number', ['?', 'int']], points, names],
        ],
        Read: [
          [
            ['first', 'int'],
            ['second', ['?', 'int']],
            ['others', ['?', ['[]', 'int']]],
          ],
          [
            ['contents', ['[]', 'string']],
            ['user', 'int'],
          ],
        ],
        Open: [[['paths', ['[]', 'string']]], [['files', ['[]', 'int']]]],
        Count: [[['to', 'int']], [['number', 'int']]],
        Wait: [[['files', ['?', ['[]', 'int']]]], []],
        Fail: [[['how', ['known', 'errno', 'unknown']]], []],
        Later: [[], []],
      },
      error: {
        SoldOut: [
          ['what', 'string'],
          ['since', ['?', 'int']],
        ],
      },
    },
  ],
] as const)
  t.same(parsed(describe(described)), want, rule);
t.end();
