/** Commands to a terminal, line ends, and what shows text in another order or not at all. */
const CONTROLS = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

/**
 * One line, whatever is in it. Names of files, callers and contexts come from others: a terminal must neither take orders
 * from them nor show them as something else.
 */
export function printable(text: string): string {
  return text.replace(CONTROLS, (control) => `\\u${control.codePointAt(0)!.toString(16).padStart(4, '0')}`);
}

/** The same with its line ends, each followed by `indent`, so that no line can pass for one of ours. */
export function printableLines(text: string, indent: string): string {
  return text.split('\n').map(printable).join(`\n${indent}`);
}
