/** Mapped owners, beside fuse-overlayfs: the same commands are run in mounts of both, with the same options. */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { must } from '../../src/sys/errno.ts';
import { native } from '../../src/sys/native.ts';
import { ForegroundMount } from '../fixtures/mounts/foreground.ts';
import { lowerdata } from '../fixtures/mounts/mounted.ts';
import { withScratchAsync } from '../fixtures/scratch.ts';
import { without, withoutFuse, withoutUserNamespaces } from '../fixtures/skips.ts';

t.setTimeout(300_000);

const LAYERS = `
umask 022
mkdir lower lower/d lower/open lower/of-others
cd lower
for owner in 0:0 1:1 999:999 1000:1000 1001:1001 1002:1002 1003:7 65534:65534 70000:70000; do
  echo $owner >of-$owner
  chown $owner of-$owner
done
ln -s of-0:0 link
chown -h 5:6 link
mkfifo fifo
chown 1001:5 fifo
chmod 4755 of-1001:1001
chmod 777 open
chown 1000:1000 of-others
touch of-others/own
chown 1000:1000 of-others/own
`;

/** What containers/storage sends for `podman run --userns=keep-id` of user 1001. */
const KEEP_ID = ':0:1:1001:1001:0:1:1002:1002:64535';
const SHIFT = '0:100000:65536';

const cases: readonly (readonly [rule: string, options: string, script: string])[] = [
  ['one id for another', 'uidmapping=0:7:1,gidmapping=0:8:1', ''],
  ['ranges of containers/storage', `uidmapping=${KEEP_ID},gidmapping=${KEEP_ID}`, ''],
  ['uids alone', `uidmapping=${SHIFT}`, ''],
  ['groups alone', `gidmapping=${SHIFT}`, ''],
  [
    'new owners of lower files',
    `uidmapping=${KEEP_ID},gidmapping=${KEEP_ID}`,
    'chown 0:0 of-0:0; chown 1:1 of-1:1; chown 1002 of-999:999; chgrp 1001 of-1000:1000; chown -h 0:1 link; chown 0:0 d',
  ],
  [
    'new owners by another range',
    `uidmapping=${SHIFT},gidmapping=${SHIFT}`,
    'chown 100005:100006 of-0:0; chown 165535:165535 of-1:1; stat -c %u:%g of-0:0 of-1:1',
  ],
  ['an owner who is in no range', `uidmapping=${SHIFT},gidmapping=${SHIFT}`, 'chown 5:6 of-0:0; stat -c %u:%g of-0:0'],
  [
    'new objects',
    `uidmapping=${KEEP_ID},gidmapping=${KEEP_ID}`,
    'echo x >new; mkdir dir; ln -s new newlink; mkfifo newfifo; mknod null c 1 3; stat -c "%n %u:%g" new dir newlink newfifo null',
  ],
  [
    'new objects of a user',
    `uidmapping=${KEEP_ID},gidmapping=${KEEP_ID}`,
    'setpriv --reuid 1 --regid 1 --clear-groups sh -c "cd open; echo x >new; mkdir dir; ln -s new newlink; ls -ln"',
  ],
  [
    'new objects of one who is in no range',
    `uidmapping=${SHIFT},gidmapping=${SHIFT}`,
    'echo x >new; stat -c %u:%g new',
  ],
  [
    'who may write is decided by what is shown',
    `uidmapping=${KEEP_ID},gidmapping=${KEEP_ID}`,
    `for id in 1001 1000; do setpriv --reuid $id --regid $id --clear-groups sh -c '
      echo $(id -u) >>of-others/own && echo written; chmod 600 of-1000:1000 && echo changed; touch of-others/new && echo made
    '; done 2>&1; true`,
  ],
  [
    'modes and times stay changes of one file',
    `uidmapping=${SHIFT}`,
    'chmod 600 of-1:1; touch -d @5 of-0:0; cat of-0:0',
  ],
  ['all of root', 'squash_to_root', 'echo x >new; chown 5:6 of-0:0; stat -c %u:%g new of-0:0'],
  ['all of one user', 'squash_to_uid=5', 'echo x >new; chown 5:6 of-0:0; stat -c %u:%g new of-0:0'],
  ['all of one user and one group', 'squash_to_uid=5,squash_to_gid=6', 'mkdir new; chown 5:6 d; stat -c %u:%g new d'],
  ['one user before root', 'squash_to_uid=5,squash_to_root', ''],
  ['and in the other order', 'squash_to_root,squash_to_gid=5', ''],
  [
    'what is stored is mapped, though all is of one user',
    `squash_to_uid=5,uidmapping=${SHIFT}`,
    'chown 100007 of-0:0; setpriv --reuid 100009 sh -c "echo x >open/new"',
  ],
];

const FORMAT = '%n %u:%g %f\\n';
const outputOf = (script: string, cwd: string): string =>
  execFileSync('sh', ['-c', script], { cwd, encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } });
/** Paths, owners and modes of a tree. */
const owners = (root: string): string => outputOf(`find . -exec stat -c '${FORMAT}' {} + | sort`, root);
/** The same without what mount programs mark in their own ways, and directories, which are copied on different occasions. */
const upperOwners = (root: string): string =>
  outputOf(`find . ! -type d ! -name '.wh.*' -exec stat -c '${FORMAT}' {} + | sort`, root);

interface Seen {
  readonly output: string;
  readonly merged: string;
  readonly upper: string;
}

function seenIn(home: string, script: string): Seen {
  const output = outputOf(script, join(home, 'merged'));
  return { output, merged: owners(join(home, 'merged')), upper: upperOwners(join(home, 'upper')) };
}

function prepare(home: string): string {
  chmodSync(home, 0o755);
  outputOf(LAYERS, home);
  for (const name of ['upper', 'work', 'merged']) mkdirSync(join(home, name));
  return `lowerdir=${home}/lower,upperdir=${home}/upper,workdir=${home}/work`;
}

async function byOurs(options: string, script: string, use = seenIn): Promise<Seen> {
  return await withScratchAsync(async home => {
    const merged = join(home, 'merged');
    const mount = await ForegroundMount.make('overlay', merged, `${prepare(home)},${options}`);
    try {
      const seen = use(home, script);
      must(native.umount(merged, 0), `umount ${merged}`);
      await mount.ended();
      return seen;
    } finally {
      await mount.clear();
    }
  });
}

async function byOracle(options: string, script: string): Promise<Seen> {
  return await withScratchAsync(async home => {
    const merged = join(home, 'merged');
    const given = `${prepare(home)},allow_other,default_permissions,suid,dev,${options}`;
    execFileSync('fuse-overlayfs', ['-o', given, merged], { stdio: 'ignore' });
    try {
      return seenIn(home, script);
    } finally {
      must(native.umount(merged, 0), `umount ${merged}`);
    }
  });
}

const withoutOracle = withoutFuse || without('fuse-overlayfs');

for (const [rule, options, script] of cases) {
  t.test(rule, { skip: withoutOracle }, async t => {
    const [ours, theirs] = [await byOurs(options, script), await byOracle(options, script)];
    t.equal(ours.output, theirs.output, 'what the commands print');
    t.equal(ours.merged, theirs.merged, 'what the mount shows');
    t.equal(ours.upper, theirs.upper, 'what the upper layer has');
  });
}

t.test('an owner whom the user namespace does not have', { skip: withoutOracle || withoutUserNamespaces }, async t => {
  await withScratchAsync(async home => {
    chmodSync(home, 0o755);
    outputOf(LAYERS, home);
    const seen = [
      `node ${lowerdata} mount overlay merged -o userxattr,lowerdir=lower`,
      'fuse-overlayfs merged -o lowerdir=lower',
    ].map((mount, i) => {
      const script = `mkdir ${i}; cd ${i}; ln -s ../lower; mkdir upper work merged
${mount},upperdir=upper,workdir=work,squash_to_uid=0,squash_to_gid=0 || exit 1
chmod 600 merged/of-1:1; echo more >>merged/of-1002:1002; cat merged/of-*:*; stat -c '${FORMAT}' merged/* upper/*
umount merged`;
      return outputOf(`unshare -Urm sh -c '${script.replaceAll("'", "'\\''")}'`, home);
    });
    t.equal(seen[0], seen[1]);
  });
});

t.test('a tree that is not written to', { skip: withoutOracle }, async t => {
  await withScratchAsync(async home => {
    prepare(home);
    const merged = join(home, 'merged');
    const options = `uidmapping=${KEEP_ID},gidmapping=${SHIFT}`;
    execFileSync('fuse-overlayfs', ['-o', `lowerdir=${home}/lower,${options}`, merged]);
    const want = owners(merged);
    must(native.umount(merged, 0), `umount ${merged}`);
    const mount = await ForegroundMount.make(`${home}/lower:${home}/upper`, merged, options);
    try {
      t.equal(owners(merged), want);
    } finally {
      await mount.clear();
    }
  });
});

/** Prints the ids of the named entries of an ACL, and of the file's owner. */
const ACLS = `
import os, struct, sys
ids = lambda path: [e[2] for e in struct.iter_unpack("<HHI", os.getxattr(path, "system.posix_acl_access")[4:]) if e[2] != 2**32-1]
def put(path, user, group):
    entries = (1, 6, 2**32-1), (2, 6, user), (4, 4, 2**32-1), (8, 4, group), (16, 6, 2**32-1), (32, 0, 2**32-1)
    os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries))
`;
const python = (script: string, cwd: string): string =>
  execFileSync('python3', ['-c', ACLS + script], { cwd, encoding: 'utf8' });

t.test('ids of ACLs', { skip: withoutFuse }, async t => {
  await byOurs(`uidmapping=${SHIFT},gidmapping=0:200000:65536`, '', home => {
    const script =
      'put("of-0:0", 100009, 200008); print(ids("of-0:0")); put("open", 100001, 200001); print(ids("open"))';
    t.equal(python(script, join(home, 'merged')), '[100009, 200008]\n[100001, 200001]\n', 'as they were set');
    t.equal(python('print(ids("of-0:0"))', join(home, 'upper')), '[9, 8]\n', 'as they are stored');
    python('put("of-1:1", 5, 6); put("d", 3, 4)', join(home, 'lower'));
    t.equal(python('print(ids("of-1:1"))', join(home, 'merged')), '[100005, 200006]\n', 'as they are shown');
    outputOf('setpriv --reuid 100009 --regid 100009 --clear-groups sh -c "echo x >>of-0:0"', join(home, 'merged'));
    t.throws(
      () => outputOf('setpriv --reuid 9 --regid 9 --clear-groups sh -c "echo x >>of-0:0" 2>&1', join(home, 'merged')),
      'who is shown, not who is stored, may write',
    );
    return { output: '', merged: '', upper: '' };
  });
});
t.end();
