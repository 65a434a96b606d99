/** A helper of the service: a process that does one task, reports, and ends. It knows no clients, and no other task. */
import { PolicyDenial } from '../../policy/decide.ts';
import { EIO, ErrnoError, systemError } from '../../sys/errno.ts';
import { native } from '../../sys/native.ts';
import { CHANNEL, LINE_MAX, receiveWithDescriptors, send } from '../server/orders.ts';
import { holdKey } from './hold-key.ts';
import { makeTree } from './make-tree.ts';
import { measureImage } from './measure.ts';
import type { HelperReport, Task } from './orders.ts';
import { pullImage } from './pull.ts';
import { become, confineToReading } from './rights.ts';

/** Does what the broker orders, and ends this process. */
export async function help(): Promise<void> {
  try {
    const received = receiveWithDescriptors(CHANNEL);
    if (received !== undefined) {
      const report = await perform(JSON.parse(received.text), received.fds);
      if (report) send(CHANNEL, report);
    }
  } catch (error) {
    send(CHANNEL, failureOf(systemError(error) as Error));
  }
  native.exit(0); // at once: a descriptor of a client may be one that nobody can close
}

function failureOf(error: Error): HelperReport {
  const message = error.message.slice(0, LINE_MAX);
  if (error instanceof PolicyDenial) return { kind: 'denied', message };
  return { kind: 'failed', errno: error instanceof ErrnoError ? error.errno : EIO, message };
}

async function perform(task: Task, fds: readonly number[]): Promise<HelperReport | undefined> {
  const [fd = -1] = fds;
  become(task.as);
  switch (task.kind) {
    case 'measure': {
      confineToReading();
      const digest = measureImage(fd, task.algorithm);
      return digest === undefined ? { kind: 'unfit' } : { kind: 'done', digest };
    }
    case 'make': {
      const digest = await makeTree(task.options, fds);
      return digest === undefined ? { kind: 'unfit' } : { kind: 'done', digest };
    }
    case 'pull':
      return { kind: 'done', digest: await pullImage(task) };
    case 'hold-key':
      holdKey(task, fds);
      return undefined;
  }
}
