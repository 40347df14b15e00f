/** Text columns: the first to the left, figures to the right, the rest to the left. */
export function table(
  heads: readonly string[],
  rows: readonly (readonly string[])[],
  figures: readonly number[] = [1, 2],
): string {
  const all = heads.some((head) => head !== '') ? [heads, ...rows] : rows;
  const widths = heads.map((_, column) => Math.max(...all.map((row) => (row[column] ?? '').length)));
  return all
    .map((row) =>
      row
        .map((cell, column) =>
          figures.includes(column) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
