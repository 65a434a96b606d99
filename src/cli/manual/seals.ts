/** The manual of commands about signed images. */
import { FS_VERITY, type Items, type Manual, REGISTRY_VARIABLES } from './words.ts';

const KEY_FILES: Items = [
  [
    '/etc/lowerdata/keys.d',
    'Keys that count: certificates or public keys, `NAME.pem`. A link to /dev/null revokes a name.',
  ],
  ['/usr/lib/lowerdata/keys.d', 'The same, of the system: names that the first directory lacks.'],
];

const seal: Manual = {
  examples: [
    {
      what: 'Sign an image, and mount it only if a key of a directory has signed it:',
      session: [
        '$ lowerdata seal image.cfs --key key.pem --cert keys/cert.pem -o image.sig',
        'sha256:...  image.sig',
        '$ lowerdata mount image.cfs::objects mnt -o signature=image.sig,keys=keys',
        '$ ls mnt',
        'hello',
        'notes',
        '$ lowerdata umount mnt',
      ],
      needs: 'mounts and openssl',
    },
    {
      what: 'Put the seal into the manifest, so that all copies of the image have it:',
      session: [
        '$ lowerdata seal oci:layout:v1 --store store --key key.pem --cert keys/cert.pem --inline',
        'sha256:...  sha256:...',
        '$ cp -r layout copy',
        '$ lowerdata verify oci:copy:v1 --keys keys',
        'sha256:...  keys/cert.pem (CN=example)',
      ],
      needs: 'openssl',
    },
    {
      what: 'Sign an OCI image, and elsewhere mount what was signed, and nothing else:',
      session: [
        '$ lowerdata seal oci:layout:v1 --store store --key key.pem --cert keys/cert.pem',
        'sha256:...  sha256:...',
        '$ lowerdata pull oci:layout:v1 --store other --name v1 | tail -n 1',
        'seal: sha256:...',
        '$ lowerdata mount v1 mnt -o store=other,signature=auto,keys=keys',
        '$ ls mnt',
        'usr',
        '$ lowerdata umount mnt',
      ],
      needs: 'mounts and openssl',
    },
  ],
  status: '0, or 1 if nothing was signed.',
  environment: REGISTRY_VARIABLES,
  files: [['DIR/index.json, DIR/blobs', 'The layout of an OCI image; the index lists the artifact.']],
  see: ['lowerdata-verify(1)', 'lowerdata-mount(8)', 'fsverity(1)', 'openssl-req(1)', FS_VERITY],
};

const verify: Manual = {
  examples: [
    {
      what: 'Print who has signed an image of a repository, and take what was signed from a layout, and nothing else:',
      session: [
        '$ lowerdata seal oci:layout:v1 --store store --key key.pem --cert keys/cert.pem',
        'sha256:...  sha256:...',
        '$ digest=$(lowerdata verify oci:layout:v1 --keys keys | cut -d " " -f 1)',
        '$ lowerdata pull oci:layout:v1 --store other --name v1 --expect $digest | head -n 1',
        '...  other/images/...',
        '$ lowerdata verify v1 --store other --keys keys',
        'sha256:...  keys/cert.pem (CN=example)',
      ],
      needs: 'openssl',
    },
    {
      what: 'Print the digest of an image, and the key that has signed it:',
      session: [
        '$ lowerdata seal image.cfs --key key.pem --cert keys/cert.pem -o image.sig',
        'sha256:...  image.sig',
        '$ lowerdata verify image.cfs --signature image.sig --keys keys',
        'sha256:...  keys/cert.pem (CN=example)',
      ],
      needs: 'openssl',
    },
    {
      what: 'An image that was changed after it was signed is refused, with all keys that were tried:',
      session: [
        '$ lowerdata seal image.cfs --key key.pem --cert keys/cert.pem -o image.sig',
        'sha256:...  image.sig',
        '$ echo >>image.cfs',
        '$ lowerdata verify image.cfs --signature image.sig --keys keys',
      ],
      status: 32,
      needs: 'openssl',
    },
  ],
  status:
    '0, or 1 if the call is wrong, or 32 if no key that counts has signed the digest, as of a mount with `-o signature=`.',
  environment: REGISTRY_VARIABLES,
  files: [
    ...KEY_FILES,
    ['STORE/streams/refs/oci-referrers', 'Seals, by the digests of the manifests that they belong to.'],
  ],
  see: ['lowerdata-seal(1)', 'lowerdata-mount(8)', 'fsverity(1)', 'openssl-smime(1)', FS_VERITY],
};

const policy: Manual = {
  examples: [
    {
      what: 'Show by which rule an image is refused:',
      session: [
        `$ echo '{"default": [{"type": "reject"}]}' >policy.json`,
        '$ lowerdata policy check image.cfs --policy policy.json',
        'policy policy.json',
        'image image.cfs',
        '...',
        '  default: this rule counts',
        '    reject: does not hold: no image is allowed',
      ],
      status: 32,
    },
  ],
  status: '0 if all images of the stack are allowed, 32 if one is not, or 1 for anything else.',
  files: [
    ['/etc/lowerdata/policy.json, /usr/lib/lowerdata/policy.json', 'The policy: the first one that is there.'],
    ...KEY_FILES,
  ],
  see: ['lowerdata-verify(1)', 'lowerdata-mount(8)', 'lowerdata-pull(1)', 'containers-policy.json(5)'],
};

export const manualsOfSeals: ReadonlyMap<string, Manual> = new Map([
  ['seal', seal],
  ['verify', verify],
  ['policy', policy],
]);
