/** Messages to whoever supervises the daemon. */
import { nameFromText } from '../sys/bytes.ts';
import { native } from '../sys/native.ts';

/** sd_notify(3): READY=1, STATUS=…, STOPPING=1 to the socket in $NOTIFY_SOCKET, if there is one. */
export function notifySupervisor(...lines: string[]): void {
  const { NOTIFY_SOCKET } = process.env;
  if (NOTIFY_SOCKET) native.notify(nameFromText(NOTIFY_SOCKET), nameFromText(lines.join('\n')));
}

const DAEMON_WARNING = '<28>'; // LOG_DAEMON | LOG_WARNING

/** One line to the system's log, if there is one. Source: syslog(3), RFC 3164. */
export function logToSystem(line: string): void {
  native.notify('/dev/log', nameFromText(`${DAEMON_WARNING}lowerdata[${process.pid}]: ${line}`));
}
