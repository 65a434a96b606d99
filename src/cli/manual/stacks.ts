/** The manual of commands that read a stack without a mount. */
import { FAILED, FS_VERITY, GREETING, type Manual, OVERLAYFS } from './words.ts';

const ls: Manual = {
  examples: [
    {
      what: 'List two directories of an image:',
      session: ['$ lowerdata ls image.cfs::objects / /notes', '/:', 'hello', 'notes', '', '/notes:', 'today'],
    },
    {
      what: 'Show attributes, too:',
      session: [
        '$ lowerdata ls -l image.cfs::objects /',
        '-rw-r--r-- 1 ... 78 2023-11-14 22:13 hello',
        'drwxr-xr-x 2 ... 2023-11-14 22:13 notes',
      ],
    },
  ],
  status: FAILED,
  see: ['lowerdata-cat(1)', 'lowerdata-stat(1)', 'ls(1)', OVERLAYFS],
};

const cat: Manual = {
  examples: [
    {
      what: 'Print a file of an image. Its data has a digest, so it is checked first:',
      session: ['$ lowerdata cat image.cfs::objects /hello', GREETING],
    },
    {
      what: 'Print files of two layers, one after the other:',
      session: ['$ lowerdata cat A:B /a /b', 'a', 'b'],
    },
  ],
  status: FAILED,
  see: ['lowerdata-ls(1)', 'lowerdata-explain(1)', 'cat(1)'],
};

const stat: Manual = {
  examples: [
    {
      what: 'Show the attributes of a file:',
      session: [
        '$ lowerdata stat image.cfs::objects /hello',
        '  File: /hello',
        '  Size: 78  Blocks: ...  regular file',
        '...',
      ],
    },
  ],
  status: FAILED,
  see: ['lowerdata-ls(1)', 'stat(1)', 'getfattr(1)'],
};

const check: Manual = {
  examples: [
    { what: 'Nothing is wrong with a stack:', session: ['$ lowerdata check image.cfs::objects'] },
    {
      what: 'The data of an image is not in the directory that was named:',
      session: [
        '$ lowerdata check image.cfs::B',
        'no-objects: image.cfs: the data of the one file tried is missing: ...',
        '...',
      ],
      status: 1,
    },
    { what: 'Ask what Linux 6.12 does with a stack:', session: ['$ lowerdata check --kernel=6.12 A:B'] },
  ],
  see: ['lowerdata-explain(1)', 'lowerdata-fsck(1)', OVERLAYFS],
};

const explain: Manual = {
  examples: [
    {
      what: 'Show which layer has a file:',
      session: [
        '$ lowerdata explain A:B /b',
        '/b',
        '  b',
        '    A is searched for b',
        '      b: nothing',
        '    B is searched for b',
        '      b: regular file',
        '...',
      ],
    },
    {
      what: 'Show where the data of a file of an image is, and measure it:',
      session: ['$ lowerdata explain --measure image.cfs::objects /hello', '...'],
    },
    {
      what: 'Write a script for a mail, which asks a kernel the same:',
      session: ['$ lowerdata explain --reproduce A:B /b >reproduce.sh'],
    },
  ],
  status: FAILED,
  see: ['lowerdata-check(1)', 'lowerdata-options(5)', OVERLAYFS],
};

const fsck: Manual = {
  examples: [
    {
      what: 'Check all objects of an image:',
      session: ['$ lowerdata fsck image.cfs::objects', '2 files, 1 with data elsewhere (0 MB); no problems'],
    },
    {
      what: 'Check that the image is the expected one, too:',
      session: ['$ lowerdata fsck -o digest=$(lowerdata info measure-file image.cfs) image.cfs::objects', '...'],
    },
    {
      what: 'Check a whole repository:',
      session: [
        '$ lowerdata pull oci:layout:v1 --store store --name v1 >v1.txt',
        '$ lowerdata fsck --store store',
        '... objects ... no problems',
      ],
    },
  ],
  environment: [
    ['XDG_CACHE_HOME', 'The directory of journals for users other than root; default: ~/.cache.'],
    ['HOME', 'The home directory, if `XDG_CACHE_HOME` is not set.'],
  ],
  files: [
    ['/var/cache/lowerdata', "Journals of root's runs that were interrupted: the objects that were good."],
    ['$XDG_CACHE_HOME/lowerdata', 'The same for other users.'],
  ],
  see: ['lowerdata-check(1)', 'lowerdata-pull(1)', 'fsck(8)', 'fsverity(1)', FS_VERITY],
};

export const manualsOfStacks: ReadonlyMap<string, Manual> = new Map([
  ['ls', ls],
  ['cat', cat],
  ['stat', stat],
  ['check', check],
  ['explain', explain],
  ['fsck', fsck],
]);
