/** Columns of numbers, one element for each row of a table. They grow with the table, and no object is made for a row. */

/** A column with room for `count` elements: the given one, or a copy that is at least twice as long. */
export function withRoom<T extends Uint32Array | Float64Array>(column: T, count: number): T {
  if (count <= column.length) return column;
  const Column = column.constructor as new (length: number) => T;
  const longer = new Column(Math.max(count, 2 * column.length));
  longer.set(column);
  return longer;
}
