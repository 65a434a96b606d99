/** What the service does not do, in the errors of its interface. */

/** The errors of io.lowerdata.Mount, and the one of org.varlink.service for wrong parameters. */
export type RefusalName =
  | 'NoSuchImage'
  | 'NoSuchMount'
  | 'DeniedByPolicy'
  | 'NotOwner'
  | 'TooManyMounts'
  | 'NotAllowed'
  | 'Busy'
  | 'Failed'
  | 'InvalidParameter';

export class Refusal extends Error {
  override readonly name: RefusalName;
  /** The fields of the error. */
  readonly parameters: Readonly<Record<string, string | number>>;

  constructor(name: RefusalName, parameters: Refusal['parameters']) {
    super(`${name}: ${Object.values(parameters).join(', ')}`);
    this.name = name;
    this.parameters = parameters;
  }
}
