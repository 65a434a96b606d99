/** What one client may use of the service, so that others have the rest. */

export interface Limits {
  /** Bytes of a message, either way. An image's signature and its paths take a few thousand; each connection can hold two. */
  readonly messageBytes: number;
  /** Arrays and objects inside each other, for the parser calls itself for each. An interface needs four or five. */
  readonly depth: number;
  /** Descriptors with one message. The kernel allows 253; an image, a namespace and a few directories are fewer. */
  readonly messageDescriptors: number;
  /** Descriptors that the clients of a user have sent and that are neither taken nor closed. A process has 1,024 by default. */
  readonly userDescriptors: number;
  /** Connections of all users but root, who can always see what the service does. Each is a descriptor of the process. */
  readonly connections: number;
  /** Connections of one user. The user of a container has one for each mount that it makes at the moment. */
  readonly userConnections: number;
  /** Calls of one user that are handled at the same time; later ones wait. A connection has one, in the order of its messages. */
  readonly userCalls: number;
  /** How long a message may take from its first byte to its last. Senders write it at once. */
  readonly halfMessageMs: number;
  /** How long the client may take to read one reply. */
  readonly unreadReplyMs: number;
  /** How long a connection may be without a call. */
  readonly idleMs: number;
  /** How long no connection is accepted after the process ran out of descriptors. Trying again at once would take all its time. */
  readonly acceptPauseMs: number;
  /** Lines that the log gets in a minute for what clients do wrong, and for calls that fail unexpectedly. */
  readonly logLines: number;
}

export const LIMITS: Limits = {
  messageBytes: 256 * 1024,
  depth: 16,
  messageDescriptors: 16,
  userDescriptors: 64,
  connections: 256,
  userConnections: 32,
  userCalls: 8,
  halfMessageMs: 10_000,
  unreadReplyMs: 30_000,
  idleMs: 300_000,
  acceptPauseMs: 100,
  logLines: 100,
};
