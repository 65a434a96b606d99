/** The manual of the service. */
import type { Manual } from './words.ts';

const serve: Manual = {
  examples: [
    {
      what: 'Serve a repository until the service is ended:',
      session: [
        '$ lowerdata pull oci:layout:v1 --store store --name v1',
        '...',
        '$ lowerdata serve --store store --socket "$PWD/socket" --allow-unsigned & until [ -S socket ]; do sleep 0.1; done; kill $!; wait $!',
      ],
      needs: 'mounts',
    },
  ],
  environment: [
    ['LISTEN_FDS', 'The socket that systemd passes; see sd_listen_fds(3).'],
    ['NOTIFY_SOCKET', 'The socket on which systemd hears that clients can connect; see sd_notify(3).'],
  ],
  files: [
    ['/run/lowerdata/io.lowerdata.Mount', 'The socket for clients.'],
    ['/etc/lowerdata/keys.d/NAME.pem', 'Keys that count; see lowerdata-verify(1).'],
    ['/etc/passwd', 'The numbers of users that --sign-for and --pull-for name; those of groups are in /etc/group.'],
    ['/etc/lowerdata/serve.conf', 'STORE=DIR and OPTIONS=..., for the unit of systemd.'],
  ],
  see: ['lowerdata-pull(1)', 'lowerdata-seal(1)', 'lowerdata-mount(8)', 'lowerdata-install-helper(8)'],
};

export const manualsOfService: ReadonlyMap<string, Manual> = new Map([['serve', serve]]);
