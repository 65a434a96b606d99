/** Messages to the daemon's supervisor, such as systemd, and to the system's log. */
import { writeSync } from 'node:fs';
import { type ByteString, byteStringFromText } from '../sys/bytes.ts';
import { native } from '../sys/native.ts';
import { SOCK_DGRAM } from '../sys/sockets/types.ts';

const O_NONBLOCK = 0o4000;

/** Sockets; negative if nobody listens. */
let supervisor = -1;
let systemLog = -1;

/** Connects the sockets. Must be called before this process is confined: then it can no longer open sockets. */
export function connectSupervisor(): void {
  const { NOTIFY_SOCKET } = process.env;
  if (NOTIFY_SOCKET) supervisor = connect(byteStringFromText(NOTIFY_SOCKET));
  systemLog = connect('/dev/log');
}

/** Connects a socket that never blocks, so a stuck receiver does not stop the daemon. */
function connect(path: ByteString): number {
  const socket = native.connectSocket(path, SOCK_DGRAM);
  if (socket >= 0) native.setStatusFlags(socket, O_NONBLOCK);
  return socket;
}

/** Sends sd_notify(3) lines (READY=1, STATUS=…, STOPPING=1) to the socket in $NOTIFY_SOCKET, if there is one. */
export function notifySupervisor(...lines: string[]): void {
  send(supervisor, lines.join('\n'));
}

const DAEMON_WARNING = '<28>'; // LOG_DAEMON | LOG_WARNING

/** Writes one line to the system's log, if there is one. Source: syslog(3), RFC 3164. */
export function logToSystem(line: string): void {
  send(systemLog, `${DAEMON_WARNING}lowerdata[${process.pid}]: ${line}`);
}

function send(socket: number, text: string): void {
  if (socket < 0) return;
  try {
    writeSync(socket, text);
  } catch {} // the receiver is gone or its queue is full
}
