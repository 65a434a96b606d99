/** Messages to whoever supervises the daemon. */
import { writeSync } from 'node:fs';
import { type ByteString, byteStringFromText } from '../sys/bytes.ts';
import { native } from '../sys/native.ts';

const O_NONBLOCK = 0o4000;

/** Below 0: nobody listens. */
let supervisor = -1;
let systemLog = -1;

/** To be called while this process may open sockets: later it can open none any more. */
export function connectSupervisor(): void {
  const { NOTIFY_SOCKET } = process.env;
  if (NOTIFY_SOCKET) supervisor = connect(byteStringFromText(NOTIFY_SOCKET));
  systemLog = connect('/dev/log');
}

/** Who does not listen is not waited for. */
function connect(path: ByteString): number {
  const socket = native.connectDatagram(path);
  if (socket >= 0) native.setStatusFlags(socket, O_NONBLOCK);
  return socket;
}

/** sd_notify(3): READY=1, STATUS=…, STOPPING=1 to the socket in $NOTIFY_SOCKET, if there is one. */
export function notifySupervisor(...lines: string[]): void {
  send(supervisor, lines.join('\n'));
}

const DAEMON_WARNING = '<28>'; // LOG_DAEMON | LOG_WARNING

/** One line to the system's log, if there is one. Source: syslog(3), RFC 3164. */
export function logToSystem(line: string): void {
  send(systemLog, `${DAEMON_WARNING}lowerdata[${process.pid}]: ${line}`);
}

function send(socket: number, text: string): void {
  if (socket < 0) return;
  try {
    writeSync(socket, text);
  } catch {} // it is gone, or does not listen
}
