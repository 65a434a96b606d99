/** The manual of all commands, by their names. */
import { manualsOfImages } from './images.ts';
import { manualsOfMachine } from './machine.ts';
import { manualsOfMounts } from './mounts.ts';
import { manualsOfSeals } from './seals.ts';
import { manualsOfService } from './service.ts';
import { manualsOfStacks } from './stacks.ts';
import { manualsOfStore } from './store.ts';
import type { Manual } from './words.ts';

export const manuals: ReadonlyMap<string, Manual> = new Map([
  ...manualsOfMounts,
  ...manualsOfStacks,
  ...manualsOfImages,
  ...manualsOfStore,
  ...manualsOfSeals,
  ...manualsOfService,
  ...manualsOfMachine,
]);
