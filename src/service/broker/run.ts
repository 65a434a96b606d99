/** The process of the service: it waits for clients and for its servers, until it is ended by a signal. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageDirectory } from '../../sys/native.ts';
import { Readiness } from '../../sys/sockets/readiness.ts';
import { type MakersOptions, startMakers } from '../maker/makers.ts';
import { listenAt, passedSockets } from '../varlink/listen.ts';
import { limitedLog } from '../varlink/log.ts';
import { VarlinkServer } from '../varlink/server.ts';
import { implementationOf } from './handlers.ts';
import { isKept, takeKept } from './kept/keeper.ts';
import { MountService, type ServiceOptions } from './service.ts';

export interface ServiceLife {
  /** Gets a line for each decision, and for what administrators should know. */
  readonly log: (line: string) => void;
  /** Called when clients can connect. */
  readonly ready: () => void;
}

/** Threads that close descriptors of clients: each may wait for a filesystem of its client forever. */
const CLOSING_THREADS = '64';

/** Users could fill the log with decisions about them. */
const LINES_A_MINUTE = 6000;

/** Every user may connect. */
const FOR_ALL = 0o666;

/**
 * Serves until SIGTERM or SIGINT. What is mounted goes on.
 * @param path of the socket, unless systemd has passed one
 * Throws ErrnoError if the store, the socket or the key cannot be used.
 */
export async function runService(
  options: ServiceOptions & MakersOptions,
  path: string,
  { log, ready }: ServiceLife,
): Promise<void> {
  process.env.UV_THREADPOOL_SIZE ??= CLOSING_THREADS; // read by libuv when it first starts one
  const readiness = new Readiness();
  const passed = passedSockets() ?? new Map<string, number>();
  const [socket] = [...passed].filter(([name]) => !isKept(name)).map(([, fd]) => fd);
  const listening = socket ?? listenAt(path, FOR_ALL);
  const kept = takeKept(passed, log);
  const limited = limitedLog(log, LINES_A_MINUTE);
  const service = new MountService(readiness, options, limited, kept);
  const { version } = JSON.parse(readFileSync(join(packageDirectory, 'package.json'), 'utf8')) as { version: string };
  const about = { vendor: 'lowerdata', product: 'lowerdata', version, url: 'https://www.npmjs.com/package/lowerdata' };
  readiness.run();
  const makers = await startMakers(readiness, options, limited).catch(error => {
    readiness.stop();
    throw error;
  });
  const server = new VarlinkServer(about, [implementationOf(service, makers)], log);
  server.listen(listening, readiness);
  ready();
  await new Promise<void>(ended => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => ended());
  });
  server.close();
  readiness.stop();
}
