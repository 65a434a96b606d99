import t from 'tap';
import { parseId, parseRanges, withView } from '../../src/mount/owner-options.ts';
import { EINVAL, ErrnoError } from '../../src/sys/errno.ts';

const KEY = 'uidmapping';
/** What a call returns, or its message if it throws EINVAL. */
function outcome(read: () => unknown): unknown {
  try {
    return read();
  } catch (error) {
    if (error instanceof ErrnoError && error.errno === EINVAL) return error.message;
    throw error;
  }
}

for (const [rule, value, want] of [
  ['one range', '0:1:2', [{ stored: 0, shown: 1, count: 2 }]],
  [
    'several ranges, as containers/storage sends them',
    ':0:1:1001:1001:0:1',
    [
      { stored: 0, shown: 1, count: 1001 },
      { stored: 1001, shown: 0, count: 1 },
    ],
  ],
  ['empty parts', '::0::1:2:', [{ stored: 0, shown: 1, count: 2 }]],
  ['every id', '0:0:4294967295', [{ stored: 0, shown: 0, count: 4294967295 }]],
  ['too few numbers', '0:1', 'option uidmapping=0:1: not STORED:SHOWN:COUNT, once or more often'],
  ['too many', '0:1:2:3', 'option uidmapping=0:1:2:3: not STORED:SHOWN:COUNT, once or more often'],
  ['none', ':', 'option uidmapping=:: not STORED:SHOWN:COUNT, once or more often'],
  ['a word', '0:x:1', 'option uidmapping=0:x:1: x is not a number'],
  ['a negative number', '0:-1:1', 'option uidmapping=0:-1:1: -1 is not a number'],
  ['bytes', '0:\xff:1', 'option uidmapping=0:\\xff:1: \\xff is not a number'],
  ['no ids', '0:1:0', 'option uidmapping=0:1:0: 0:1:0 is a range without ids'],
  [
    'ids past the last one',
    '0:1:4294967295',
    'option uidmapping=0:1:4294967295: 0:1:4294967295 goes past the last id, 4294967294',
  ],
  ['ids stored twice', '0:10:5:4:20:1', 'option uidmapping=0:10:5:4:20:1: 4 is stored in two ranges'],
  ['ids shown twice', '20:4:1:0:0:5', 'option uidmapping=20:4:1:0:0:5: 4 is shown in two ranges'],
] as const)
  t.same(
    outcome(() => parseRanges(value, KEY)),
    want,
    rule,
  );

for (const [rule, value, want] of [
  ['an id', '200000', 200000],
  ['the largest', '4294967294', 4294967294],
  ['one more', '4294967295', 'option squash_to_uid=4294967295: not an id from 0 to 4294967294'],
  ['a name', 'root', 'option squash_to_uid=root: not an id from 0 to 4294967294'],
] as const)
  t.same(
    outcome(() => parseId(value, 'squash_to_uid')),
    want,
    rule,
  );

const ranges = [{ stored: 0, shown: 1, count: 2 }];
t.same(withView(undefined, 'uids', { ranges }), { uids: { ranges }, gids: {} }, 'the first option');
t.same(
  withView({ uids: { ranges }, gids: {} }, 'uids', { squashed: 5 }),
  { uids: { ranges, squashed: 5 }, gids: {} },
  'one more for the same ids',
);
t.end();
