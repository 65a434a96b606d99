import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { refusal } from '../../../src/sys/security/seccomp.ts';
import { systemCalls } from '../../../src/sys/security/system-calls.ts';

/** The numbers that the C headers of a machine have. */
function numbersOf(header: string, defines: readonly string[]): Map<string, number> {
  const input = `${defines.map(name => `#define ${name}\n`).join('')}#include <${header}>\n`;
  const { stdout } = spawnSync('gcc', ['-E', '-dM', '-x', 'c', '-'], { input, encoding: 'utf8' });
  const values = [...stdout.matchAll(/^#define __NR(?:3264)?_(\w+) (\d+)$/gm)];
  return new Map(values.map(([, name, value]) => [name as string, Number(value)]));
}

/** What asm-generic/unistd.h wants to hear for arm64. Source: arch/arm64/include/uapi/asm/unistd.h. */
const WANTED = ['RENAMEAT', 'NEW_STAT', 'SET_GET_RLIMIT', 'SYS_CLONE3', 'MEMFD_SECRET'];
const ARM64 = ['__BITS_PER_LONG 64', ...WANTED.map(name => `__ARCH_WANT_${name}`)];
/** Younger than some headers. */
const YOUNG = [
  ...['fchmodat2', 'statmount', 'listmount', 'lsm_set_self_attr', 'setxattrat', 'removexattrat', 'open_tree_attr'],
  'file_setattr',
];

for (const [rule, column, header, defines] of [
  ['x86-64', 0, 'asm/unistd_64.h', []],
  ['arm64', 1, 'asm-generic/unistd.h', ARM64],
] as const) {
  const known = numbersOf(header, defines);
  const skip = rule === 'x86-64' && process.arch !== 'x64' ? 'its header is not here' : false;
  t.test(`the numbers of ${rule} are those of ${header}`, { skip }, async t => {
    t.ok(known.size > 250, 'the header is read');
    for (const [name, numbers] of Object.entries(systemCalls))
      if (known.has(name) || !YOUNG.includes(name)) t.equal(numbers[column], known.get(name), name);
  });
}

/** Makes directories on two threads, and sockets, after `before`. */
const script = (before: string): string => `
  import { mkdirSync, promises, openSync } from 'node:fs';
  import { connect } from 'node:net';
  import { spawnSync } from 'node:child_process';
  import * as seccomp from '${new URL('../../../src/sys/security/seccomp.js', import.meta.url)}';
  import { refuseNewPrivileges } from '${new URL('../../../src/sys/security/privileges.js', import.meta.url)}';
  const [at] = process.argv.slice(-1);
  await promises.stat('/'); // the threads that open files are there already
  refuseNewPrivileges(0);
  ${before}
  const tried = async f => { try { await f(); return 'done'; } catch (error) { return error.code; } };
  const socket = port => new Promise((done, fail) => connect(port).on('error', fail));
  console.log([
    await tried(() => mkdirSync(at + '/one')),
    await tried(() => promises.mkdir(at + '/two')),
    await tried(() => openSync('/dev/null', 'r')),
    await tried(() => socket({ host: '127.0.0.1', port: 1 })),
    await tried(() => socket({ path: at + '/none' })),
  ].join(' '));`;
const refuse = `const status = seccomp.applyToAllThreads(seccomp.refusal({ calls: ['mkdir', 'mkdirat', 'connect'] }));
  if (status !== 0) throw new Error('seccomp: ' + status);`;

for (const [rule, before, want] of [
  ['without a filter', '', 'done done done ECONNREFUSED ENOENT'],
  ['with one, on every thread', refuse, 'EPERM EPERM done EPERM EPERM'],
] as const) {
  const home = t.testdir();
  const args = ['--input-type=module', '-e', script(before), home];
  const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  t.equal(stdout.trim(), want, `${rule} ${stderr}`);
  t.equal(existsSync(join(home, 'two')), before === '', rule);
}
t.equal(refusal({ calls: ['mount'] }, 's390x'), undefined, 'no filter for a machine whose numbers are not known');
t.end();
