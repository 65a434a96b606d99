/** Types of Unix sockets. Source: asm-generic/socket.h, linux/net.h. */
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
/** Messages keep their boundaries. */
export const SOCK_SEQPACKET = 5;
