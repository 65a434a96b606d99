/** The manual of commands that make, convert and compare images. */
import { FAILED, FS_VERITY, GREETING, type Manual, OVERLAYFS, REGISTRY_VARIABLES } from './words.ts';

const mkfs: Manual = {
  examples: [
    {
      what: "Make an image of a directory, and copy its files' data into a store:",
      session: [
        '$ lowerdata mkfs --digest-store=objects tree image.cfs',
        '$ lowerdata info objects image.cfs',
        '02/763ba3661262d5df7b4e710ca3928dd53bf8b9e8c81255bf839ffae6c8490f',
      ],
    },
    {
      what: 'Print the digest of the image that a directory gives, and write nothing:',
      session: ['$ lowerdata mkfs --use-epoch --print-digest-only tree | wc -c', '65'],
    },
    {
      what: 'Make an image whose data stays in the directory:',
      session: [
        '$ lowerdata mkfs --external tree external.cfs',
        '$ lowerdata ls external.cfs::tree /',
        'hello',
        'notes',
      ],
    },
  ],
  status: '0, or 1 if nothing was written.',
  environment: [['CFS_PARSE_STRICT', 'If it is set, dumps of `--from-file` are read strictly, as by mkcomposefs(1).']],
  see: ['lowerdata-mount(8)', 'lowerdata-info(1)', 'mkcomposefs(1)', 'composefs-dump(5)', 'mkfs.erofs(1)'],
};

const commit: Manual = {
  examples: [
    {
      what: 'Change a tree in a writable mount, and make an image of the result:',
      session: [
        '$ mkdir upper work',
        '$ lowerdata mount image.cfs::objects mnt -o upperdir=upper,workdir=work',
        '$ echo more >>mnt/hello',
        '$ lowerdata umount mnt',
        '$ lowerdata commit -o upperdir=upper,workdir=work --digest-store=objects image.cfs::objects new.cfs',
        '$ lowerdata cat new.cfs::objects /hello',
        GREETING,
        'more',
      ],
      needs: 'mounts',
    },
    {
      what: 'Make an image of the changes alone, and stack it on the image that was changed:',
      session: [
        '$ mkdir upper work',
        '$ lowerdata mount image.cfs::objects mnt -o upperdir=upper,workdir=work',
        '$ rm mnt/hello',
        '$ lowerdata umount mnt',
        '$ lowerdata commit --diff -o upperdir=upper,workdir=work --digest-store=objects image.cfs::objects diff.cfs',
        '$ lowerdata ls diff.cfs:image.cfs::objects /',
        'notes',
      ],
      needs: 'mounts',
    },
  ],
  status: '0, or 1 if no image was written.',
  see: ['lowerdata-mkfs(1)', 'lowerdata-mount(8)', 'lowerdata-compare(1)'],
};

const pull: Manual = {
  examples: [
    {
      what: 'Make an image of one in an OCI layout, and mount it by its name:',
      session: [
        '$ lowerdata pull oci:layout:v1 --store store --name v1',
        '...  store/images/...',
        '1 layers (0 known), 2 entries, 1 files in objects: 1 new, 0 known, 0 replaced',
        'lowerdata mount store/images/...::store/objects MOUNTPOINT -o digest=...',
        '$ lowerdata mount v1 mnt -o store=store',
        '$ cat mnt/usr/hello',
        GREETING,
        '$ lowerdata umount mnt',
      ],
      needs: 'mounts',
    },
    {
      what: 'Print the digest alone; and fail unless another run comes to the same:',
      session: [
        '$ digest=$(lowerdata pull oci:layout:v1 --store store | head -c 64)',
        '$ lowerdata pull oci:layout:v1 --store other --expect $digest | tail -n +2 | head -n 1',
        '1 layers (0 known), 2 entries, 1 files in objects: 1 new, 0 known, 0 replaced',
      ],
    },
    {
      what: 'Make an image of each layer, too, and stack them as the call that is printed last does:',
      session: [
        '$ lowerdata pull oci:layout:v1 --store store --name v1 --layers | tail -n 2 | head -n 1',
        'layer 1: ...  store/images/...',
        '$ lowerdata compare store/images/refs/v1.layers/1::store/objects store/images/refs/v1',
      ],
    },
  ],
  status: '0, or 1 if no image was made.',
  environment: [
    ...REGISTRY_VARIABLES,
    ['CONTAINERS_STORAGE_CONF, XDG_DATA_HOME', "Where podman's storage is looked for."],
  ],
  files: [
    ['$XDG_RUNTIME_DIR/containers/auth.json', 'Credentials for registries, of podman-login(1).'],
    ['~/.config/containers/auth.json', 'The same.'],
    ['~/.docker/config.json', 'The same, of docker-login(1).'],
    ['/etc/containers/storage.conf', 'Where podman has its storage; see containers-storage.conf(5).'],
    ['/etc/containers/certs.d/HOST', 'Certificates for a registry; see containers-certs.d(5).'],
    ['/etc/containers/registries.conf', 'Mirrors and other places of registries; see containers-registries.conf(5).'],
    ['~/.config/containers/registries.conf', 'The same, in place of it.'],
    ['STORE/objects', 'The data of files, and images.'],
    [
      'STORE/images',
      'A symlink for each image, named by its digest; in `refs`, by the name of `--name`, and those of layers as `NAME.layers/1` and so on.',
    ],
    [
      'STORE/streams',
      'What images were made of: manifests, configurations and layers; in `refs/oci`, by the name of `--name`.',
    ],
    ['STORE/meta.json', 'What makes the directory a repository of composefs.'],
  ],
  see: [
    ...['lowerdata-mount(8)', 'lowerdata-mkfs(1)', 'skopeo(1)', 'containers-transports(5)'],
    ...['containers-auth.json(5)', 'containers-certs.d(5)', 'containers-registries.conf(5)'],
  ],
};

const relink: Manual = {
  examples: [
    {
      what: 'Have all redirects lead to data-only layers alone:',
      session: [
        '$ lowerdata relink image.cfs -o new.cfs --to data-only',
        '$ lowerdata cat new.cfs::objects /hello',
        GREETING,
      ],
    },
    {
      what: 'And back: the image is what it was, byte for byte:',
      session: [
        '$ lowerdata relink image.cfs -o new.cfs --to data-only',
        '$ lowerdata relink new.cfs -o old.cfs --to absolute',
        '$ cmp image.cfs old.cfs',
      ],
    },
  ],
  see: ['lowerdata-mkfs(1)', 'lowerdata-index(1)', 'open_by_handle_at(2)', OVERLAYFS],
};

const index: Manual = {
  examples: [
    {
      what: 'Record the handles of a store, whose filesystem must have a uuid:',
      session: ['$ lowerdata index objects', 'objects: 1 files'],
      needs: 'uuid',
    },
  ],
  status: '0, or 1 if a directory could not be indexed.',
  files: [['.lowerdata-handles', 'The index, in each directory.']],
  see: ['lowerdata-relink(1)', 'open_by_handle_at(2)', 'capabilities(7)'],
};

const info: Manual = {
  examples: [
    { what: 'List the files of an image, with their objects:', session: ['$ lowerdata info ls image.cfs', '...'] },
    {
      what: 'List the objects that a store lacks: none.',
      session: ['$ lowerdata info missing-objects --basedir=objects image.cfs'],
    },
    {
      what: 'Print the fs-verity digest of a file:',
      session: [
        '$ lowerdata info measure-file tree/hello',
        '02763ba3661262d5df7b4e710ca3928dd53bf8b9e8c81255bf839ffae6c8490f',
      ],
    },
    {
      what: 'Copy an image by way of a dump:',
      session: ['$ lowerdata info dump image.cfs | lowerdata mkfs --from-file - copy.cfs', '$ cmp image.cfs copy.cfs'],
    },
  ],
  status: FAILED,
  see: ['lowerdata-mkfs(1)', 'composefs-info(1)', 'composefs-dump(5)', 'fsverity(1)', FS_VERITY],
};

const compare: Manual = {
  examples: [
    {
      what: 'A directory and its image are the same:',
      session: ['$ lowerdata compare tree image.cfs::objects'],
    },
    {
      what: 'Two directories are not:',
      session: ['$ lowerdata compare A B', '/a\ttype\tregular file\t-', '/b\ttype\t-\tregular file'],
      status: 1,
    },
  ],
  see: ['lowerdata-info(1)', 'diff(1)', 'cmp(1)'],
};

export const manualsOfImages: ReadonlyMap<string, Manual> = new Map([
  ['mkfs', mkfs],
  ['commit', commit],
  ['pull', pull],
  ['relink', relink],
  ['index', index],
  ['info', info],
  ['compare', compare],
]);
