/** The manual of commands that work on a repository of images. */
import type { Items, Manual } from './words.ts';

const PULLED = '$ lowerdata pull oci:layout:v1 --store store --name v1 >v1.txt';
const NAMES: Items = [
  ['STORE/streams/refs/oci', 'Tags: names that lead to manifests.'],
  ['STORE/images/refs', 'Names that lead to composefs images.'],
];

const images: Manual = {
  examples: [
    {
      what: 'Pull an image, and list what the store has:',
      session: [PULLED, '$ lowerdata images --store store', 'NAME  ...', 'v1    ...'],
    },
  ],
  files: NAMES,
  see: ['lowerdata-pull(1)', 'lowerdata-inspect(1)', 'lowerdata-tag(1)', 'lowerdata-mount(8)', 'podman-images(1)'],
};

const inspect: Manual = {
  examples: [
    {
      what: 'Print the call that mounts an image:',
      session: [
        PULLED,
        '$ lowerdata inspect v1 --store store | grep mount',
        'mount         lowerdata mount v1 MOUNTPOINT -o store=store',
      ],
    },
  ],
  files: NAMES,
  see: ['lowerdata-pull(1)', 'lowerdata-images(1)', 'lowerdata-mount(8)', 'podman-image-inspect(1)'],
};

const tag: Manual = {
  examples: [
    {
      what: 'Name an image, and read it by that name:',
      session: [
        PULLED,
        '$ lowerdata tag v1 team/app:stable --store store',
        '$ lowerdata ls team/app:stable / -o store=store',
        'usr',
      ],
    },
  ],
  files: NAMES,
  see: ['lowerdata-untag(1)', 'lowerdata-images(1)', 'lowerdata-pull(1)'],
};

const untag: Manual = {
  examples: [
    {
      what: 'Take the only name of an image away:',
      session: [
        PULLED,
        '$ lowerdata untag v1 --store store',
        '$ lowerdata images --store store | tail -n 1',
        '-     ...',
      ],
    },
  ],
  files: NAMES,
  see: ['lowerdata-tag(1)', 'lowerdata-images(1)'],
};

const gc: Manual = {
  examples: [
    {
      what: 'Take the only name of an image away, and remove the image with its objects:',
      session: [
        PULLED,
        '$ lowerdata untag v1 --store store',
        '$ lowerdata gc --store store | tail -n 1',
        'removed 1 images, ...',
        '$ find store/objects -type f',
      ],
    },
  ],
  files: [
    ...NAMES,
    ['/run/lowerdata', 'Records of mounts, which say which images they have.'],
    ['/sys/block/loop*/loop/backing_file', 'The images that loop devices have.'],
  ],
  see: ['lowerdata-untag(1)', 'lowerdata-images(1)', 'lowerdata-mount(8)', 'flock(2)', 'losetup(8)'],
};

export const manualsOfStore: ReadonlyMap<string, Manual> = new Map([
  ['images', images],
  ['inspect', inspect],
  ['tag', tag],
  ['untag', untag],
  ['gc', gc],
]);
