/** Globs over names: `*` stands for any run of characters, an empty one included; nothing else is special. */

/** Matches in time linear in the name for each piece of the pattern: no backtracking, whatever the name. */
export function compileGlob(pattern: string): (name: string) => boolean {
  const pieces = pattern.split('*');
  const [first, last] = [pieces[0]!, pieces.at(-1)!];
  if (pieces.length === 1) {
    return (name) => name === pattern;
  }
  const middle = pieces.slice(1, -1).filter((piece) => piece !== '');
  return (name) => {
    if (name.length < first.length + last.length || !name.startsWith(first) || !name.endsWith(last)) {
      return false;
    }
    const end = name.length - last.length;
    let position = first.length;
    for (const piece of middle) {
      const found = name.indexOf(piece, position);
      if (found < 0 || found + piece.length > end) {
        return false;
      }
      position = found + piece.length;
    }
    return true;
  };
}
