/** Values as ITU-T X.690 has them, and encodings that are refused, with their place. */
import t from 'tap';
import { DerReader, der, derOid, Tag } from '../../src/seal/der.ts';
import { attempt, ErrnoError } from '../../src/sys/errno.ts';

const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex'));
const hex = (value: Uint8Array): string => Buffer.from(value).toString('hex');

/** Sources: X.690, 8.19.5 (the first); RFC 5652 and RFC 5754 for the others. */
const OIDS = [
  ['2.100.3', '06 03 813403'],
  ['1.2.840.113549.1.7.2', '06 09 2a864886f70d010702'],
  ['2.16.840.1.101.3.4.2.1', '06 09 608648016503040201'],
  ['1.2.840.10045.4.3.2', '06 08 2a8648ce3d040302'],
] as const;
for (const [dotted, encoded] of OIDS) {
  t.equal(new DerReader(bytes(encoded)).oid('it'), dotted);
  t.equal(hex(derOid(dotted)), encoded.replaceAll(' ', ''));
}

/** Lengths. Source: X.690, 8.1.3; 201 bytes are its example of the long form. */
for (const [length, head] of [
  [0, '0400'],
  [127, '047f'],
  [128, '048180'],
  [201, '0481c9'],
  [65_536, '0483010000'],
] as const) {
  const value = der(Tag.octetString, new Uint8Array(length));
  t.equal(hex(value.subarray(0, value.length - length)), head);
  t.equal(new DerReader(value).contents('it', Tag.octetString).length, length);
}

t.test('values in values', async t => {
  const list = new DerReader(bytes('30 09 020105 3104 04026162')).into('the list', Tag.sequence);
  t.equal(list.number('the number'), 5);
  t.equal(list.optional('the option', Tag.context0), undefined);
  const set = list.into('the set', Tag.set);
  t.equal(hex(set.contents('the text', Tag.octetString)), '6162');
  set.finish('the set');
  list.finish('the list');
  t.equal(list.tag, undefined);
});

/** Reads a sequence with a number, and nothing after either. */
function read(encoded: Uint8Array): number {
  const file = new DerReader(encoded);
  const list = file.into('the list', Tag.sequence);
  file.finish('the list');
  const number = list.number('the number');
  list.finish('the number');
  return number;
}

t.equal(read(bytes('30 03 02017f')), 127);
for (const [rule, encoded, message] of [
  ['nothing', '', 'byte 0: the list is missing'],
  ['another tag', '31 03 020101', 'byte 0: the list has tag 0x31, not 0x30'],
  ['a tag of several bytes', '3f 03 020101', 'byte 0: the list has a tag of several bytes'],
  ['no length', '30', 'byte 0: the list has no length'],
  ['a length past the end', '30 04 020101', 'byte 0: the list has 4 bytes, but 3 are left'],
  ['a length past the value around it', '30 03 020201 00', 'byte 5: 1 bytes after the list'],
  ['a length past the value around it, inside', '30 03 020201', 'byte 2: the number has 2 bytes, but 1 are left'],
  ['an indefinite length', '30 80 020101 0000', 'byte 0: the list has no length before its contents: BER, not DER'],
  ['a length with a needless byte', '30 8103 020101', 'byte 0: the list has a length with needless bytes'],
  ['a length with zeros before', '30 820003 020101', 'byte 0: the list has a length with needless bytes'],
  ['a length of 4 bytes', '30 84ffffffff 020101', 'byte 0: the list has a length of 4 bytes'],
  ['a length of 127 bytes', '30 ff 020101', 'byte 0: the list has a length of 127 bytes'],
  ['a length that is cut off', '30 82 03', 'byte 0: the list has a length of 2 bytes'],
  ['bytes after it', '30 03 020101 00', 'byte 5: 1 bytes after the list'],
  ['values after the last', '30 06 020101 020101', 'byte 5: 3 bytes after the number'],
  ['a negative number', '30 03 0201ff', 'byte 2: the number is not a number from 0 to 127'],
  ['a number of two bytes', '30 04 02020001', 'byte 2: the number is not a number from 0 to 127'],
  ['a number without bytes', '30 02 0200', 'byte 2: the number is not a number from 0 to 127'],
] as const) {
  const error = attempt(() => read(bytes(encoded)));
  t.match(error, { name: 'EUCLEAN', message }, rule);
}

for (const [rule, encoded] of [
  ['without bytes', '0600'],
  ['that goes on', '0602 2a86'],
  ['with a needless byte', '0603 2a8001'],
  ['with a number past 2^40', `060a ${'ff'.repeat(9)}7f`],
] as const)
  t.match(
    attempt(() => new DerReader(bytes(encoded)).oid('it')),
    { message: 'byte 0: it is malformed' },
    `an OID ${rule}`,
  );
t.ok(attempt(() => new DerReader(bytes('0500')).oid('it')) instanceof ErrnoError, 'NULL is no OID');
t.end();
