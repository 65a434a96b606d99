/** Checks what `lowerdata doctor` reports about fs-verity on a filesystem that has it, and on one that cannot have it. */
import { check, DISK, lowerdata } from './guest.ts';

interface Directory {
  readonly path: string;
  readonly facts: readonly { readonly name: string; readonly ok: boolean }[];
}

export function checkDoctor(): void {
  const { directories } = JSON.parse(lowerdata('doctor', '--json', DISK, '/proc')) as { directories: Directory[] };
  const found = directories.map(({ path, facts }) => [path, facts.find(({ name }) => name === 'fs-verity')?.ok]);
  check('doctor knows where fs-verity is', found, [
    [DISK, true],
    ['/proc', false],
  ]);
}
