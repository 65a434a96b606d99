/** Proves the tables of src/cli/probes-*.ts and machine.ts with machines that are not this one. */
import t from 'tap';
import { askAll, type Fact, factOf } from '../../src/doctor/facts.ts';
import { GROUPS, standingOf } from '../../src/doctor/groups.ts';
import { isSince, type Machine, type Offer, offerIn, versionOf } from '../../src/doctor/machine.ts';
import { baseProbes, kernelProbes } from '../../src/doctor/probes-kernel.ts';
import { flagsHelp, mountProbes, uringHelp } from '../../src/doctor/probes-mount.ts';
import { ErrnoError } from '../../src/sys/errno.ts';

for (const [release, wanted] of [
  ['6.18.44-fc-v769', [6, 18]],
  ['5.14.0-427.el9.x86_64', [5, 14]],
  ['6.1', [6, 1]],
  ['strange', [0, 0]],
] as const)
  t.strictSame(versionOf(release), wanted, release);
for (const [kernel, since, wanted] of [
  [[6, 6], [6, 6], true],
  [[6, 12], [6, 9], true],
  [[6, 9], [6, 12], false],
  [[7, 0], [6, 16], true],
  [[5, 20], [6, 5], false],
] as const)
  t.equal(isSince(kernel, since), wanted, `${kernel} is since ${since}`);

/** Nothing could be asked. */
const machineOf = (release: string, more: Partial<Machine> = {}): Machine => ({
  release,
  kernel: versionOf(release),
  isAdmin: true,
  inInitialNamespace: true,
  offer: undefined,
  ...more,
});
const fact = (rows: typeof mountProbes, machine: Machine, name: string): Fact => factOf(askAll(rows, machine), name);

for (const [release, first, tier] of [
  ['5.14.0', 'overlay-data-only', 'rhel9'],
  ['6.5.0', 'overlay-verity', 'rhel9'],
  ['6.6.9', 'overlay-nesting', 'rhel9'],
  ['6.7.0', 'erofs-file', 'rhel9'],
  ['6.12.0', 'overlay-detached', 'pre-6.15'],
  ['6.15.2', 'overlay-user-data', 'pre-6.16'],
  ['7.0.1', undefined, 'composefs-rs needs no feature for older kernels'],
] as const) {
  const facts = askAll(kernelProbes, machineOf(release));
  const missing = facts.filter(({ why }) => /not before Linux/.test(why ?? ''));
  t.equal(missing[0]?.name, first, `${release}: the first that is missing`);
  t.equal(factOf(facts, 'composefs-tier').value, tier, `${release}: the tier`);
}

for (const [release, protocol, passthrough] of [
  ['5.6.0', /^7\.31 or later, according to the version/, /older than 7\.40/],
  ['6.8.0', /^7\.39 or later/, /older than 7\.40/],
  ['6.9.1', /^7\.40 or later/, undefined],
  ['6.18.0', /^7\.45 or later/, undefined],
] as const) {
  t.match(fact(mountProbes, machineOf(release), 'fuse-protocol').value, protocol, `${release}: the protocol`);
  const { ok, why } = fact(mountProbes, machineOf(release), 'passthrough');
  t.equal(ok, passthrough === undefined, `${release}: passthrough`);
  if (passthrough) t.match(why, passthrough);
}
const LITTLE: Offer = { minor: 45, flags: new Set(['ASYNC_READ']) };
for (const [rule, more, why] of [
  ['a kernel without passthrough', { offer: LITTLE }, /^this kernel has none$/],
  ['an ordinary user', { isAdmin: false }, /^needs CAP_SYS_ADMIN$/],
  ['root of a user namespace', { inInitialNamespace: false }, /outside of user namespaces/],
] as const) {
  const { ok, why: said, help } = fact(mountProbes, machineOf('6.18.0', more), 'passthrough');
  t.equal(ok, false, rule);
  t.match(said, why, `${rule}: why`);
  t.match(help, /./, `${rule}: what helps`);
}
const partial = machineOf('6.18.0', { offer: LITTLE });
t.match(fact(mountProbes, partial, 'fuse-flags'), {
  ok: false,
  value: /^1 of the \d\d/,
  why: /^missing: AUTO_INVAL_DATA/,
});

t.equal(uringHelp(undefined), 'Linux 6.14 with CONFIG_FUSE_IO_URING; boot with fuse.enable_uring=1');
const SWITCH = 'boot with fuse.enable_uring=1, or as root: echo Y >/sys/module/fuse/parameters/enable_uring';
t.equal(uringHelp('N'), SWITCH, 'the kernel has it, but it is off');
t.equal(flagsHelp(['OVER_IO_URING'], 'N'), `for OVER_IO_URING: ${SWITCH}`, 'no newer kernel is advised');
t.equal(flagsHelp(['ASYNC_READ', 'OVER_IO_URING'], 'N'), `for OVER_IO_URING: ${SWITCH}; a newer kernel for ASYNC_READ`);
t.equal(flagsHelp(['OVER_IO_URING'], undefined), 'a newer kernel for OVER_IO_URING');

const all = GROUPS.flatMap(({ names }) => names);
t.strictSame(
  [...all].sort(),
  [...baseProbes, ...mountProbes, ...kernelProbes].map(([name]) => name).sort(),
  'each fact is in one group',
);
for (const [rule, missing, name, standing] of [
  ['no device', ['fuse-device'], 'fuse-device', 'missing'],
  ['an ordinary user', ['mount'], 'mount', 'no'],
  ['root without the helper', ['fusermount3'], 'fusermount3', 'no'],
  ['no means of mounting', ['mount', 'fusermount3'], 'mount', 'missing'],
  ['a slow mount', ['passthrough'], 'passthrough', 'no'],
  ['a kernel without overlayfs', ['overlayfs'], 'overlayfs', 'no'],
  ['nothing missing', [], 'mount', 'yes'],
] as const) {
  const facts = all.map(name => ({ name, ok: !missing.some(one => one === name), value: null }));
  t.equal(standingOf(factOf(facts, name), facts), standing, rule);
}

/** fuse_in_header and fuse_init_in: INIT is opcode 26; 7.45; flags ASYNC_READ and INIT_EXT; flags2 PASSTHROUGH. */
const HEADER = '68000000 1a000000 0200000000000000 0000000000000000 00000000 00000000 00000000 00000000';
const BODY = '07000000 2d000000 00000200 01000040 20000000';
const request = (header: string, body: string, unused = 44): Uint8Array =>
  Buffer.from(`${header}${body}${'00'.repeat(unused)}`.replace(/ /g, ''), 'hex');
t.strictSame(
  offerIn(request(HEADER, BODY)),
  { minor: 45, flags: new Set(['ASYNC_READ', 'INIT_EXT', 'PASSTHROUGH']) },
  'INIT',
);
t.strictSame(
  offerIn(request(HEADER, BODY.replace('01000040', '01000000')))?.flags,
  new Set(['ASYNC_READ']),
  'flags2 count with INIT_EXT alone',
);
t.equal(offerIn(request(HEADER, BODY).subarray(0, 50)), undefined, 'a truncated one');
t.equal(offerIn(request(HEADER.replace('1a', '01'), BODY)), undefined, 'another request');
t.equal(offerIn(request(HEADER, BODY.replace('07', '08'))), undefined, 'another major version');

const failing = (error: Error) => (): never => {
  throw error;
};
t.match(
  askAll([['broken', failing(new ErrnoError(5, 'broken: EIO'))]], undefined),
  [{ name: 'broken', ok: false, value: null, why: 'broken: EIO', help: /./ }],
  'a system call that fails is an answer',
);
t.throws(() => askAll([['broken', failing(new TypeError('a defect'))]], undefined), TypeError, 'a defect is none');
t.end();
