/** The reply to OPEN. */
import type { Out } from '../fuse/reply.ts';
import * as reply from '../fuse/reply.ts';
import type { OpenReply } from './files.ts';

/** Writes an OpenOut. @returns its size, or the negative errno or DEFERRED that was given instead of a handle */
export function putOpened(out: Out, opened: OpenReply | number): number {
  if (typeof opened === 'number') return opened;
  return reply.putOpenOut(out.view, 0, opened.handle, opened.flags, opened.backingId);
}
