/** `lowerdata serve`: the service that mounts signed images for clients without privileges. */
import type { Command } from 'commander';
import { inheritedDescriptors } from '../../../mount/inherited.ts';
import { pathList } from '../../../mount/options.ts';
import { connectSupervisor, notifySupervisor } from '../../../mount/supervisor.ts';
import { runService } from '../../../service/broker/run.ts';
import type { SigningOptions } from '../../../service/maker/makers.ts';
import { NOBODY_ELSE, parsePrincipals } from '../../../service/maker/principals.ts';
import type { PullingOptions } from '../../../service/maker/puller.ts';
import { SERVICE_SOCKET } from '../../../service/socket.ts';
import { type ByteString, byteStringFromText, printable } from '../../../sys/bytes.ts';
import { EINVAL, EPERM, ErrnoError } from '../../../sys/errno.ts';
import { realPath } from '../../../sys/real-path.ts';
import { CAP_SYS_ADMIN, hasCapability } from '../../../sys/security/privileges.ts';
import { complain, reporting } from '../../../terminal/report.ts';
import { newCommand, parse } from '../../command.ts';
import { checkRegistryFlags, type RegistryFlags, withRegistryOptions } from '../../source-image.ts';

const FAILED = 1;

interface ServeFlags extends RegistryFlags {
  readonly store: ByteString;
  readonly socket: ByteString;
  readonly keys?: ByteString;
  readonly policy?: ByteString;
  readonly allowUnsigned?: true;
  readonly pullFor?: ByteString;
  readonly signKey?: ByteString;
  readonly signCert?: ByteString;
  readonly signFor?: ByteString;
}

export const define = (): Command => withRegistryOptions(withoutRegistryOptions()).addHelpText('after', HELP);

const withoutRegistryOptions = (): Command =>
  newCommand('lowerdata serve')
    .description('Mount signed images of a repository for clients that may not mount themselves.')
    .usage('[options] --store DIR')
    .requiredOption('--store <path>', 'the repository, as of `lowerdata pull`')
    .option('--socket <path>', 'where clients connect, unless systemd passes a socket', SERVICE_SOCKET)
    .option('--keys <list>', 'the directories of keys that count, DIR[:DIR]...')
    .option('--policy <file>', 'the policy, in place of /etc/lowerdata/policy.json and /usr/lib/lowerdata/policy.json')
    .option('--allow-unsigned', 'mount images without a seal, too, if there is no policy')
    .option('--sign-key <path>', 'the private key that signs for clients, PEM; a process of its own reads it')
    .option('--sign-cert <path>', 'the certificate of the key, PEM')
    .option('--sign-for <list>', 'the users for whom images are signed, besides root: USER,@GROUP,...')
    .option('--pull-for <list>', 'the users for whom images are pulled into the repository, besides root');

const HELP = `
Clients speak varlink (io.lowerdata.Mount), as \`varlinkctl call\` does. Each decision is a line on stderr. SIGTERM ends the service;
what it has mounted goes on until it is unmounted.
Exit status: 0 after SIGTERM, or 1 after an error.`;

export async function run(args: readonly ByteString[]): Promise<number> {
  inheritedDescriptors(undefined); // so that processes with the rights of clients do not inherit them
  const command = define();
  const ended = parse(command, args);
  if (ended !== undefined) return ended;
  const flags = command.opts<ServeFlags>();
  const { store, socket, keys, policy, allowUnsigned = false } = flags;
  return reporting(FAILED, async () => {
    if (!hasCapability(CAP_SYS_ADMIN)) throw new ErrnoError(EPERM, 'serve: needs CAP_SYS_ADMIN, to mount for others');
    connectSupervisor();
    const directories = keys === undefined ? undefined : pathList(keys);
    const own = { store, keys: directories, policyFile: policy, allowsUnsigned: allowUnsigned };
    const options = { ...own, signing: signingOf(flags), pulling: pullingOf(flags) };
    await runService(options, socket, {
      log: line => complain(printable(byteStringFromText(line))),
      ready: () => notifySupervisor('READY=1', `STATUS=${printable(store)} is served`),
    });
    notifySupervisor('STOPPING=1');
    return 0;
  });
}

/** The options of registries, with absolute paths. Throws ErrnoError. */
function pullingOf(flags: ServeFlags): PullingOptions {
  checkRegistryFlags(flags);
  const { store, policy, authfile, certDir, tlsVerify, pullFor } = flags;
  const absolute = (path: ByteString | undefined) => (path === undefined ? undefined : realPath(path));
  return {
    store: realPath(store),
    sources: {
      ...{ policyFile: absolute(policy), authfile: absolute(authfile), certDirectory: absolute(certDir) },
      verifies: tlsVerify === undefined ? undefined : tlsVerify === 'true',
    },
    users: pullFor === undefined ? NOBODY_ELSE : parsePrincipals(pullFor, '--pull-for'),
  };
}

/** The options of the key. Throws ErrnoError EINVAL. */
function signingOf({ signKey, signCert, signFor }: ServeFlags): SigningOptions | undefined {
  const users = signFor === undefined ? NOBODY_ELSE : parsePrincipals(signFor, '--sign-for');
  if (signKey !== undefined && signCert !== undefined) return { key: signKey, certificate: signCert, users };
  if (signKey === undefined && signCert === undefined && signFor === undefined) return undefined;
  throw new ErrnoError(EINVAL, '--sign-key and --sign-cert go together, and --sign-for goes with them');
}
