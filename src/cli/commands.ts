/** The table of commands, from which help, manual pages and completions are made. A command's file is loaded on first use. */
import type { ByteString } from '../sys/bytes.ts';
import type { CommandEntry } from './command-file.ts';

export const commands: ReadonlyMap<ByteString, CommandEntry> = new Map<ByteString, CommandEntry>([
  [
    'mount',
    {
      usage: 'mount A:B::C|IMAGE MOUNTPOINT',
      what: 'mount a stack or an image',
      load: () => import('./commands/mount.ts'),
    },
  ],
  ['umount', { usage: 'umount MOUNTPOINT', what: 'unmount it', load: () => import('./commands/umount.ts') }],
  [
    'install-helper',
    {
      usage: 'install-helper',
      what: 'make mount(8) and /etc/fstab know the type lowerdata',
      load: () => import('./commands/install-helper.ts'),
    },
  ],
  [
    'status',
    {
      usage: 'status [MOUNTPOINT]',
      what: 'show the layers, the protection and the activity of mounts',
      load: () => import('./commands/status.ts'),
    },
  ],
  ['ls', { usage: 'ls STACK PATH...', what: 'list directories', load: () => import('./commands/ls.ts') }],
  ['cat', { usage: 'cat STACK PATH...', what: 'print files', load: () => import('./commands/cat.ts') }],
  ['stat', { usage: 'stat STACK PATH...', what: 'show attributes', load: () => import('./commands/stat.ts') }],
  [
    'check',
    {
      usage: 'check STACK',
      what: 'find redirects that another layer captures, and missing data',
      load: () => import('./commands/check.ts'),
    },
  ],
  [
    'explain',
    {
      usage: 'explain STACK PATH...',
      what: 'show how paths are looked up, and by which rules',
      load: () => import('./commands/explain.ts'),
    },
  ],
  [
    'mkfs',
    {
      usage: 'mkfs DIR IMAGE',
      what: 'make an image of a directory',
      load: () => import('./commands/mkfs.ts'),
    },
  ],
  [
    'commit',
    {
      usage: 'commit STACK NEW',
      what: 'make one image of what a stack shows',
      load: () => import('./commands/commit.ts'),
    },
  ],
  [
    'serve',
    {
      usage: 'serve --store DIR',
      what: 'mount signed images for users without privileges',
      load: () => import('./commands/service/serve.ts'),
    },
  ],
  [
    'pull',
    {
      usage: 'pull REF --store DIR',
      what: 'make an image of an OCI image',
      load: () => import('./commands/store/pull.ts'),
    },
  ],
  [
    'images',
    {
      usage: 'images --store DIR',
      what: 'list the images of a store',
      load: () => import('./commands/store/images.ts'),
    },
  ],
  [
    'inspect',
    {
      usage: 'inspect NAME --store DIR',
      what: 'show what is known of an image of a store',
      load: () => import('./commands/store/inspect.ts'),
    },
  ],
  [
    'tag',
    {
      usage: 'tag NAME NEW --store DIR',
      what: 'give an image of a store another name',
      load: () => import('./commands/store/tag.ts'),
    },
  ],
  [
    'untag',
    {
      usage: 'untag NAME --store DIR',
      what: 'take a name from an image of a store',
      load: () => import('./commands/store/untag.ts'),
    },
  ],
  [
    'gc',
    {
      usage: 'gc --store DIR',
      what: 'remove what no name and no mount of a store needs',
      load: () => import('./commands/store/gc.ts'),
    },
  ],
  [
    'seal',
    {
      usage: 'seal IMAGE|oci:DIR[:TAG]',
      what: 'sign the digest of an image',
      load: () => import('./commands/seals/seal.ts'),
    },
  ],
  [
    'verify',
    {
      usage: 'verify IMAGE|oci:DIR[:TAG]|NAME',
      what: 'find the key that has signed the digest of an image',
      load: () => import('./commands/seals/verify.ts'),
    },
  ],
  [
    'policy',
    {
      usage: 'policy check STACK|REF',
      what: 'show rule by rule whether the policy allows an image',
      load: () => import('./commands/seals/policy.ts'),
    },
  ],
  [
    'relink',
    {
      usage: 'relink IMAGE -o NEW --to HOW',
      what: 'convert how an image refers to its objects',
      load: () => import('./commands/relink.ts'),
    },
  ],
  [
    'bench',
    {
      usage: 'bench STACK',
      what: 'measure how long lookups take, compared with the kernel',
      load: () => import('./commands/bench.ts'),
    },
  ],
  [
    'fsck',
    { usage: 'fsck STACK', what: 'check every object of a stack or a store', load: () => import('./commands/fsck.ts') },
  ],
  [
    'index',
    {
      usage: 'index DIR...',
      what: 'record file handles, for users who may not open files by handle',
      load: () => import('./commands/index.ts'),
    },
  ],
  [
    'info',
    {
      usage: 'info QUESTION IMAGE...',
      what: 'show the contents of images',
      load: () => import('./commands/info.ts'),
    },
  ],
  [
    'doctor',
    {
      usage: 'doctor [DIR...]',
      what: 'show what this machine supports, and how to enable the rest',
      load: () => import('./commands/doctor.ts'),
    },
  ],
  [
    'compare',
    {
      usage: 'compare A B',
      what: 'compare two trees, field by field',
      load: () => import('./commands/compare.ts'),
    },
  ],
  [
    'completion',
    {
      usage: 'completion bash|zsh|fish',
      what: 'print the completion script of a shell',
      load: async () => {
        const { define, runFor } = await import('./commands/completion.ts');
        return { define, run: args => runFor(args, commands) };
      },
    },
  ],
]);
