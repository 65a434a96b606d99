/** What people should know about a stack when it is mounted. */
import type { Overlay } from '../overlay/overlay.ts';
import { type Finding, WHOLE_STACK } from './finding.ts';
import { objectsFinding } from './objects.ts';

/** The most important finding; undefined if there is nothing to say. */
export const stackFinding = (overlay: Overlay): Finding | undefined => objectsFinding(overlay) ?? indexFinding(overlay);

function indexFinding({ indexObstacle: obstacle }: Overlay): Finding | undefined {
  if (obstacle === undefined) return undefined;
  const { layer, why } = obstacle;
  return {
    code: 'no-index',
    path: WHOLE_STACK,
    ...(layer && { layer }),
    message: `index=on has no effect: ${layer ? `layer ${layer}: ` : ''}${why}`,
    help: 'a lower file with several names becomes a file for each name that is changed',
  };
}
