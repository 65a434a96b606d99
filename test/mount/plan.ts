import t from 'tap';
import { type MountPlan, planMount, splitMountOptions, storedImage, withoutFuse3Words } from '../../src/mount/plan.ts';
import { ErrnoError } from '../../src/sys/errno.ts';

interface Who {
  isRoot?: boolean;
  sloppy?: boolean;
  images?: readonly string[];
}

function plan(
  source: string,
  texts: string | readonly string[] = '',
  { isRoot = true, sloppy = false, images = [] }: Who = {},
): MountPlan {
  const list = typeof texts === 'string' ? [texts] : texts;
  return planMount({ source, texts: list, sloppy, isRoot, isImage: path => images.includes(path) });
}

/** The message of what `action` throws. */
function refusal(action: () => unknown): string {
  try {
    action();
    return 'accepted';
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error;
    return `${error.name} ${error.message}`;
  }
}

const layersOf = ({ stack }: MountPlan): string =>
  stack.layers.map(({ path, dataOnly }, i) => (i === 0 ? '' : dataOnly ? '::' : ':') + path).join('');

t.test('the language', async t => {
  for (const [rule, text, want] of [
    ['options are separated by commas', 'a,b=c', ['a', 'b=c']],
    ['a backslash keeps a comma, and stays', 'a=x\\,y,b', ['a=x\\,y', 'b']],
    ['a backslash keeps a backslash', 'a=x\\\\,b', ['a=x\\\\', 'b']],
    ['a backslash at the end', 'a=x\\', ['a=x\\']],
    ['a value in quotes is one value', 'a="x,y",b', ['a=x,y', 'b']],
    ['at the end, too', 'b,a="x,y"', ['b', 'a=x,y']],
    ['backslashes in quotes stay', 'a="x\\,y"', ['a=x\\,y']],
    ['quotes inside of a value are bytes', 'a=x"y,z"', ['a=x"y', 'z"']],
    ['quotes around a part of a value are bytes', 'a="x"y,b', ['a="x"y', 'b']],
    ['a quote that does not end is a byte', 'a="x,b', ['a="x', 'b']],
    ['the first equals sign counts', 'a=b=c', ['a=b=c']],
    ['empty options are nothing', ',,a,', ['a']],
    ['without a key it is nothing', '=x,a', ['a']],
    ['an empty value is a value', 'a=', ['a=']],
    ['any byte', 'a=\xff\n', ['a=\xff\n']],
  ] as const) {
    const got = splitMountOptions(text).map(({ key, value }) => (value === undefined ? key : `${key}=${value}`));
    t.same(got, want, rule);
  }
});

t.test('layers', async t => {
  const who = { images: ['img', 'img2'] };
  for (const [rule, source, text, want] of [
    ['the source names them', 'A:B::C', '', 'A:B::C'],
    ['one directory', 'A', '', 'A'],
    ['an image and its objects', 'img', 'basedir=/o', 'img::/o'],
    ['two object directories', 'img', 'basedir=/o:/p', 'img::/o::/p'],
    ['an escaped colon', 'img', 'basedir=/o\\:p', 'img::/o:p'],
    ['an escaped comma', 'img', 'basedir=/o\\,p', 'img::/o,p'],
    ['an octal comma', 'img', 'basedir=/o\\054p', 'img::/o,p'],
    ['quotes', 'img', 'basedir="/o,p"', 'img::/o,p'],
    ['objects follow other data-only layers', 'A::B', 'basedir=/o', 'A::B::/o'],
    ['lowerdir makes the source a name', 'none', 'lowerdir=A:B', 'A:B'],
    ['lowerdir knows no octal', 'none', 'lowerdir=A:B\\054C', 'A:B054C'],
    ['lowerdir in quotes', 'none', 'lowerdir="A:x,y"', 'A:x,y'],
    ['lowerdir+', 'none', 'lowerdir+=A,lowerdir+=B:C,datadir+=D', 'A:B:C::D'],
    ['source=', 'none', 'source=img,basedir=/o', 'img::/o'],
  ] as const) {
    t.equal(layersOf(plan(source, text, who)), want, rule);
  }
  t.equal(plan('img', '', who).stack.redirects, 'data-only', 'an image protects its redirects');
  t.equal(plan('img:img2::o', '', who).stack.redirects, 'data-only', 'a stack of images, too');
  t.equal(plan('img:A::o', '', who).stack.redirects, 'kernel', 'a stack with a directory does not');
  t.equal(plan('x', 'lowerdir=img:img2', who).stack.redirects, 'kernel', 'nor what overlayfs would mount');
  t.equal(plan('x', 'lowerdir=A:B').stack.metacopy, false);
  t.equal(plan('A:B').stack.metacopy, true);
});

t.test('an image of a repository', async t => {
  const digest = 'ab'.repeat(32);
  const other = 'cd'.repeat(64);
  const options = (source: string, text = '') => {
    const stored = { store: 'st:ore', name: source, digest };
    return planMount({
      source,
      texts: [`store=st\\:ore,${text}`],
      sloppy: false,
      isRoot: true,
      isImage: () => true,
      stored,
    });
  };
  const byName = options('N:A,ME');
  t.equal(layersOf(byName), `st:ore/images/${digest}::st:ore/objects`);
  t.match(byName.stack, { imageDigest: digest, verity: 'require', redirects: 'data-only' }, 'is checked');
  t.same(byName.stack.stored, { store: 'st:ore', name: 'N:A,ME', givesDigest: true });
  t.equal(byName.fuse.fsname, 'N:A,ME', 'its name is the source');
  t.equal(options('N', 'fsname=x').fuse.fsname, 'x');
  t.equal(options(digest).stack.stored?.givesDigest, false, 'by its digest');
  t.match(
    options('N', `digest=${other}`).stack,
    { imageDigest: other, stored: { givesDigest: false } },
    'digest= counts',
  );
  t.equal(options('N', 'verity=off').stack.verity, 'off');
  t.equal(layersOf(options('N', 'basedir=/more')), `st:ore/images/${digest}::st:ore/objects::/more`);
  t.match(options('N', 'upperdir=u,workdir=w').stack.upper, { upperdir: 'u', workdir: 'w' });
  t.equal(
    refusal(() => plan('N', 'store')),
    'EINVAL option store: needs a value',
  );
  for (const text of ['lowerdir=A:B', 'lowerdir+=A', 'datadir+=A']) {
    const [key] = text.split('=');
    await t.rejects(
      storedImage('N', ['store=/none', text]),
      { message: `option store: excludes ${key}: the source is the name of an image` },
      text,
    );
  }
  t.equal(await storedImage('N', ['ro']), undefined, 'without the option');
  for (const [text, store, name] of [
    ['store=/no\\,ne', '/no,ne', 'N'],
    ['store="/no,ne"', '/no,ne', 'N'],
    ['store=/a\\072b', '/a:b', 'N'],
    ['store=/a,store=/b', '/b', 'N'],
  ] as const)
    await t.rejects(storedImage(name, [text]), { message: `${store}: No such file or directory` }, text);
});

t.test('verity, in the spellings of overlayfs and mount.composefs', async t => {
  for (const [text, want] of [
    ['', 'on'],
    ['verity', 'require'],
    ['tryverity', 'require'],
    ['verity=off', 'off'],
    ['verity=on', 'on'],
    ['verity=require', 'require'],
    ['verity=off,verity', 'require'],
    [`digest=${'ab'.repeat(32)}`, 'require'],
    [`digest=${'ab'.repeat(32)},tryverity`, 'require'],
    [`digest=${'ab'.repeat(32)},verity=on`, 'on'],
  ] as const) {
    t.equal(plan('A:B', text).stack.verity, want, text || 'by default');
  }
});

t.test('FUSE and the driver', async t => {
  const { fuse, driver } = plan(
    'A:B',
    'allow_other,fsname=x\\,y,subtype=z,max_read=8192,attr_timeout=1.5,entry_timeout=2,negative_timeout=0,dentry_cache=100,noacl,debug,opens=none,passthrough=off,latency=low,transport=fuse-native',
  );
  t.same(fuse, { fsname: 'x,y', subtype: 'z', allowOther: true, flags: [], maxReadBytes: 8192 });
  t.same(driver, {
    opens: 'none',
    passthrough: 'off',
    confine: 'auto',
    acl: false,
    debug: true,
    latency: 'low',
    transport: 'fuse-native',
    attrTimeout: 1.5,
    entryTimeout: 2,
    negativeTimeout: 0,
    dentries: 100,
  });
  t.same(plan('A:B').driver, {
    passthrough: 'auto',
    opens: 'each',
    acl: true,
    debug: false,
    confine: 'auto',
    latency: 'normal',
    transport: 'dev',
  });
  t.same(plan('A:B').fuse, { fsname: 'A:B', subtype: 'lowerdata', allowOther: false, flags: [] });
  t.same(plan('A:B', 'timeout=3').driver.entryTimeout, 3);

  for (const [rule, text, isRoot, want] of [
    ['root may have all', '', true, []],
    ['others may not', '', false, ['nosuid', 'nodev']],
    ['nor by asking', 'suid,dev,exec,rw', false, ['nosuid', 'nodev']],
    ['as mount.fuse3 calls for root', 'rw,dev,suid', true, []],
    ['the last one counts', 'nosuid,noexec,exec', true, ['nosuid']],
    ['times', 'noatime,nodiratime,atime', true, ['nodiratime']],
  ] as const) {
    t.same(plan('A:B', text, { isRoot }).fuse.flags, want, rule);
  }
});

t.test('what layers demand is lifted by who asks for it', async t => {
  for (const [rule, text, isRoot, want] of [
    ['nothing by default', '', true, undefined],
    ['all three', 'suid,dev,exec', true, ['nosuid', 'nodev', 'noexec']],
    ['the last one counts', 'dev,nodev', true, undefined],
    ['defaults lift nothing', 'defaults', true, undefined],
    ['others may have programs alone', 'suid,dev,exec', false, ['noexec']],
  ] as const) {
    t.same(plan('A:B', text, { isRoot }).driver.lifted, want, rule);
  }
});

t.test('owners', async t => {
  const ranges = [{ stored: 0, shown: 1, count: 2 }];
  for (const [rule, text, want] of [
    ['as they are stored', '', undefined],
    ['ranges', 'uidmapping=:0:1:2,gidmapping=0:1:2', { uids: { ranges }, gids: { ranges } }],
    ['ranges of groups alone', 'gidmapping=0:1:2', { uids: {}, gids: { ranges } }],
    ['all of root', 'squash_to_root', { uids: { squashed: 0 }, gids: { squashed: 0 } }],
    ['a user comes before root', 'squash_to_uid=5,squash_to_root', { uids: { squashed: 5 }, gids: { squashed: 0 } }],
    ['also in the other order', 'squash_to_root,squash_to_uid=5', { uids: { squashed: 5 }, gids: { squashed: 0 } }],
    ['both', 'uidmapping=0:1:2,squash_to_uid=5', { uids: { ranges, squashed: 5 }, gids: {} }],
  ] as const)
    t.same(plan('A:B', text).driver.owners, want, rule);
});

/** The texts on the left came from mount.fuse3 3.14 for what is on the right in fstab(5). */
t.test('the words of mount.fuse3', async t => {
  for (const [text, want] of [
    ['ro,dev,suid', 'ro'],
    ['rw,allow_other,dev,suid', 'rw,allow_other'],
    ['ro,nodev,suid', 'ro,nodev'],
    ['ro,nosuid,dev', 'ro,nosuid'],
    ['ro,nodev,nosuid', 'ro,nodev,nosuid'],
    ['allow_other,dev', 'allow_other,dev'],
    ['dev', 'dev'],
  ] as const)
    t.equal(withoutFuse3Words(text), want, text);
});

t.test('options without effect', async t => {
  t.same(plan('A:B', 'xino=on,kernel_cache,index=off,ro,nofail,auto_unmount').withoutEffect, [
    'xino',
    'kernel_cache',
    'auto_unmount',
    'index',
  ]);
  const who = { images: ['img', 'img2'] };
  for (const [rule, source, want, others = ''] of [
    ['an image alone', 'img', []],
    ['and its objects', 'img::C', []],
    ['two images', 'img:img2', ['nfs_export']],
    ['a directory', 'A::img', ['nfs_export']],
    ['an image with an upper directory', 'img', ['nfs_export'], 'upperdir=U,workdir=W,'],
  ] as const)
    t.same(plan(source, `${others}nfs_export=on`, who).withoutEffect, want, `nfs_export=on: ${rule}`);
  const words =
    'rw,ro,nofail,_netdev,user,noauto,auto,dev,suid,exec,async,atime,defaults,uhelper=x,comment=y,x-systemd.automount,X-a=b';
  t.same(plan('A:B', words).withoutEffect, [], 'the words of mount(8) are not worth a word');
  t.same(plan('A:B', 'frobnicate,ro,frob=x', { sloppy: true }).withoutEffect, ['frobnicate', 'frob'], 'mount -s');
});

/** The kernel's answers are in /proc/mounts of a mount with these options. */
t.test('an index of an upper directory', async t => {
  for (const [rule, options, want] of [
    ['unless it is asked for', '', false],
    ['asked for', 'index=on', true],
    ['the last one counts', 'index=on,index=off', false],
    ['with userxattr', 'index=on,userxattr', true],
    ['for handles that outlive the mount', 'nfs_export=on', true],
    ['but for the option that says no', 'nfs_export=on,index=off', false],
    ['without data', 'index=on,metacopy=off,volatile', true],
  ] as const) {
    const { stack, withoutEffect } = plan('A', `upperdir=U,workdir=W,${options}`);
    t.equal(stack.upper?.index, want, rule);
    t.notOk(withoutEffect.includes('index'), `${rule}: not without effect`);
  }
  t.equal(plan('A:B', 'index=on').stack.upper, undefined, 'without an upper directory there is none');
});

t.test('refusals', async t => {
  for (const [rule, source, text, want] of [
    ['unknown', 'A:B', 'frobnicate', 'EINVAL option frobnicate: unknown'],
    ['unknown, in any bytes', 'A:B', '\xff=1', 'EINVAL option \\xff: unknown'],
    [
      'an upper without a work directory',
      'A:B',
      'upperdir=U',
      'EINVAL upperdir: needs workdir, an empty directory on the same mount',
    ],
    [
      'owners of other filesystems',
      'img',
      'uid=5',
      'EINVAL option uid: owners are mapped by idmap, uidmapping and gidmapping alone',
    ],
    [
      'half a mapping',
      'A:B',
      'gidmapping=0:1',
      'EINVAL option gidmapping=0:1: not STORED:SHOWN:COUNT, once or more often',
    ],
    ['a mapping without a value', 'A:B', 'uidmapping', 'EINVAL option uidmapping: needs a value'],
    [
      'an owner by name',
      'A:B',
      'squash_to_gid=wheel',
      'EINVAL option squash_to_gid=wheel: not an id from 0 to 4294967294',
    ],
    ['remote layers', 'A:B', 'oci.blob=x', 'EINVAL option oci.blob: remote layers are not supported yet'],
    ['a flag with a value', 'A:B', 'allow_other=1', 'EINVAL option allow_other: takes no value'],
    ['a value that is missing', 'A:B', 'fsname', 'EINVAL option fsname: needs a value'],
    [
      'too many dentries',
      'A:B',
      'dentry_cache=16777217',
      'EINVAL option dentry_cache=16777217: not a number from 0 to 16777216',
    ],
    ['half a dentry', 'A:B', 'dentry_cache=1.5', 'EINVAL option dentry_cache=1.5: not a number from 0 to 16777216'],
    ['no number', 'A:B', 'attr_timeout=-1', 'EINVAL option attr_timeout=-1: not a number'],
    ['a wrong choice', 'A:B', 'passthrough=yes', 'EINVAL option passthrough=yes: not one of auto, on, off'],
    ['a wrong verity', 'A:B', 'verity=yes', 'EINVAL option verity=yes: not one of off, on, require'],
    ['an empty object directory', 'img', 'basedir=/a::/b', 'EINVAL option basedir=/a::/b: an empty path'],
    ['overlayfs wants two layers', 'x', 'lowerdir=A', 'EINVAL lowerdir: a stack needs two layers at least'],
    ['a source that is no stack', ':A', '', 'EINVAL SOURCE=:A: a colon before the first layer, at byte 0'],
  ] as const) {
    t.equal(
      refusal(() => plan(source, text)),
      want,
      rule,
    );
  }
  t.equal(
    refusal(() => plan('A:B', 'allow_root', { isRoot: false })),
    'EINVAL option allow_root: not supported yet; allow_other lets root in, too',
  );
  t.equal(
    refusal(() => plan('A:B', 'allow_root')),
    'accepted',
    'root is let in anyway',
  );
});
