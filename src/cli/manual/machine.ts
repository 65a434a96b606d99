/** The manual of commands about the machine and the shell, and of the program as a whole. */
import { type Manual, OVERLAYFS } from './words.ts';

const bench: Manual = {
  examples: [
    {
      what: 'Measure this driver alone, once:',
      session: [
        '$ lowerdata bench A:B --targets lowerdata --workloads stat,miss --rounds 1',
        'workload ...',
        'stat ...',
        'miss ...',
        '...',
      ],
      needs: 'mounts',
    },
  ],
  environment: [['PATH', 'Where fuse-overlayfs and the programs of `--peer` are looked for.']],
  files: [['/proc/sys/vm/drop_caches', 'Written to before cold workloads.']],
  see: ['lowerdata-mount(8)', 'fuse-overlayfs(1)', OVERLAYFS],
};

const doctor: Manual = {
  examples: [
    {
      what: 'Examine this machine, and the filesystem of a store:',
      session: ['$ lowerdata doctor objects', '...'],
      needs: 'mounts',
    },
  ],
  environment: [['PATH', 'Where fusermount3(1) and unshare(1) are looked for.']],
  files: [
    ['/dev/fuse', 'Has to be readable and writable.'],
    ['/etc/fuse.conf', 'Its line user_allow_other permits `allow_other` to users other than root.'],
    ['/sys/module/fuse/parameters/enable_uring', 'Whether FUSE goes over io_uring.'],
  ],
  see: ['lowerdata-mount(8)', 'fusermount3(1)', 'fuse(4)', 'tune2fs(8)', OVERLAYFS],
};

const completion: Manual = {
  examples: [{ what: 'Write the script of bash to a file:', session: ['$ lowerdata completion bash >lowerdata.bash'] }],
  status: '0, or 1 for a shell that is not known.',
  files: [
    ['~/.bashrc', 'Where bash reads the script.'],
    ['~/.zshrc', 'Where zsh does.'],
    ['~/.config/fish/config.fish', 'Where fish does.'],
  ],
  see: ['lowerdata(1)', 'bash(1)', 'zsh(1)', 'fish(1)'],
};

export const manualsOfMachine: ReadonlyMap<string, Manual> = new Map([
  ['bench', bench],
  ['doctor', doctor],
  ['completion', completion],
]);

/** lowerdata(1). */
export const manualOfProgram: Manual = {
  examples: [
    {
      what: 'From a directory to a mount:',
      session: [
        '$ lowerdata mkfs --digest-store=objects tree image.cfs',
        '$ lowerdata mount image.cfs::objects mnt',
        '$ ls mnt',
        'hello',
        'notes',
        '$ lowerdata umount mnt',
      ],
      needs: 'mounts',
    },
    {
      what: 'See whether mounts work here, and what would make them faster:',
      session: ['$ lowerdata doctor', '...'],
      needs: 'mounts',
    },
  ],
  status:
    'That of the command; 1 if the call is wrong. 2 if Node.js is missing, or memory or descriptors have run out.',
  environment: [['LOWERDATA_NODE', 'The Node.js to run; default: `node` on the PATH.']],
  files: [
    ['$(npm root -g)/lowerdata/docs', 'The documentation, if npm has installed the package for all.'],
    ['/run/lowerdata', "Records of root's mounts."],
    ['$XDG_RUNTIME_DIR/lowerdata', 'Records of the mounts of other users.'],
  ],
  see: ['lowerdata-options(5)', 'mkcomposefs(1)', 'fusermount3(1)', 'mount(8)', 'fsverity(1)', OVERLAYFS],
};
