/** The live numbers of a mount: its daemon sends one JSON document to each client of the socket beside its state file. */
import { rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { type Activity, type ActivityCounters, activityOf } from '../driver/activity.ts';
import { byteStringFromText } from '../sys/bytes.ts';
import { runDeferred } from '../sys/event-loop.ts';
import { native } from '../sys/native.ts';

export interface LiveNumbers {
  readonly process: {
    readonly uptimeSeconds: number;
    readonly residentBytes: number;
    /** CPU time of all threads. */
    readonly userSeconds: number;
    readonly systemSeconds: number;
  };
  /** null with transport=fuse-native, which counts nothing. */
  readonly activity: Activity | null;
}

/** The live numbers of this process. */
export function liveNumbers(counters: ActivityCounters | undefined): LiveNumbers {
  const { user, system } = process.cpuUsage();
  return {
    process: {
      uptimeSeconds: process.uptime(),
      residentBytes: process.memoryUsage.rss(),
      userSeconds: user / 1e6,
      systemSeconds: system / 1e6,
    },
    activity: counters ? activityOf(counters) : null,
  };
}

/** A umask that leaves only the owner access. connect(2) needs write permission for the socket. */
const PRIVATE = 0o177;

/**
 * Starts to serve the numbers. A mount works without them, so a failure is no error. It costs nothing while no client connects.
 * @param path of the socket; '' for none
 * @param counters called for each client; undefined if nothing is counted
 */
export function serveLive(path: string, counters: () => ActivityCounters | undefined): void {
  if (!path) return;
  const fd = listenAt(path);
  if (fd < 0) return;
  const answer = (socket: Socket): void => {
    socket.on('error', () => {}); // the client is gone
    socket.end(told(counters), () => socket.destroy());
  };
  runDeferred(() => {
    createServer(answer)
      .on('error', () => {})
      .unref()
      .listen({ fd });
  });
}

/** Listens at a path. @returns the socket's descriptor; negative if that failed */
function listenAt(path: string): number {
  const before = process.umask(PRIVATE);
  try {
    rmSync(path, { force: true }); // of an earlier daemon with the same process ID
    return native.listenStream(byteStringFromText(path));
  } catch {
    return -1;
  } finally {
    process.umask(before);
  }
}

/** The JSON document. It is empty if the numbers are unavailable: before the mount is made, or without a free descriptor. */
function told(counters: () => ActivityCounters | undefined): string {
  try {
    return JSON.stringify(liveNumbers(counters()));
  } catch {
    return '';
  }
}

/** How long to wait for a daemon, which may be stopped or on an overloaded machine. */
const PATIENCE_MS = 2000;
/** The largest answer in bytes. All operations and caches together take a hundredth of it. */
const ANSWER_MAX = 2 ** 20;

/** Asks the daemon that listens at a path. @returns its live numbers; undefined if it does not answer */
export function askDaemon(path: string): Promise<LiveNumbers | undefined> {
  if (!path) return Promise.resolve(undefined);
  return new Promise(resolve => {
    let text = '';
    const socket = connect(path);
    socket.setEncoding('utf8');
    socket.on('data', piece => {
      text += piece;
      if (text.length > ANSWER_MAX) socket.destroy();
    });
    socket.on('error', () => {}); // the daemon is gone or never existed; `close` follows
    socket.on('close', () => {
      clearTimeout(timer);
      resolve(parsed(text));
    });
    const timer = setTimeout(() => socket.destroy(), PATIENCE_MS);
  });
}

function parsed(text: string): LiveNumbers | undefined {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
