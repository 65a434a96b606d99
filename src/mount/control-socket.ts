/** What a daemon tells of its mount while it lives: one JSON document to whoever connects to the socket beside its state file. */
import { rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { type Activity, type ActivityCounters, activityOf } from '../driver/activity.ts';
import { byteStringFromText } from '../sys/bytes.ts';
import { native } from '../sys/native.ts';
import { runDeferred } from './deferred.ts';

export interface LiveNumbers {
  readonly process: {
    readonly uptimeSeconds: number;
    readonly residentBytes: number;
    /** Processor time of all threads. */
    readonly userSeconds: number;
    readonly systemSeconds: number;
  };
  /** null: nothing is counted, with transport=fuse-native. */
  readonly activity: Activity | null;
}

/** Of this process. */
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

/** Owner alone. Source: connect(2) needs to write to the socket. */
const PRIVATE = 0o177;

/**
 * A mount works without it, so a failure is no error. It costs nothing while nobody asks.
 * @param path of the socket, '' for none @param counters gives what there is to tell of by then
 */
export function serveLive(path: string, counters: () => ActivityCounters | undefined): void {
  if (!path) return;
  const fd = listenAt(path);
  if (fd < 0) return;
  const answer = (socket: Socket): void => {
    socket.on('error', () => {}); // who asked has gone
    socket.end(told(counters), () => socket.destroy());
  };
  runDeferred(() => {
    createServer(answer)
      .on('error', () => {})
      .unref()
      .listen({ fd });
  });
}

/** @returns below 0 where nobody can listen there */
function listenAt(path: string): number {
  const before = process.umask(PRIVATE);
  try {
    rmSync(path, { force: true }); // of a daemon that had the same number
    return native.listenStream(byteStringFromText(path));
  } catch {
    return -1;
  } finally {
    process.umask(before);
  }
}

/** Nothing where a number can not be had, before the mount is made, or without a descriptor for it: the mount must go on. */
function told(counters: () => ActivityCounters | undefined): string {
  try {
    return JSON.stringify(liveNumbers(counters()));
  } catch {
    return '';
  }
}

/** A daemon that is stopped, or whose machine is out of breath, is not waited for any longer. */
const PATIENCE_MS = 2000;
/** What all operations and caches come to is a hundredth of it. */
const ANSWER_MAX = 2 ** 20;

/** @returns what the daemon that listens at a path tells; undefined where it does not */
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
    socket.on('error', () => {}); // it has gone, or never was; `close` follows
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
