/** A terminal that is drawn on in place, and left as it was. */
import type { Paint } from './view.ts';

const ESCAPE = '\u001b[';
const LOOKS = { bold: '1', dim: '2', good: '32', bad: '31', doubtful: '33' } as const;
/** What begins and ends a colour. */
const CODES = new RegExp(`${ESCAPE.replace('[', '\\[')}[0-9]*m`, 'y');

export const plain: Paint = (text) => text;

/** Colours, unless somebody objects (no-color.org). */
export function painter(): Paint {
  return process.env.NO_COLOR ? plain : (text, look) => `${ESCAPE}${LOOKS[look]}m${text}${ESCAPE}0m`;
}

/** The first `width` columns of a line; colours take none. */
export function cut(line: string, width: number): string {
  let columns = 0;
  let at = 0;
  while (at < line.length) {
    CODES.lastIndex = at;
    if (CODES.test(line)) {
      at = CODES.lastIndex;
    } else if (columns === width) {
      return `${line.slice(0, at)}${ESCAPE}0m`;
    } else {
      columns += 1;
      at += 1;
    }
  }
  return line;
}

export class Screen {
  readonly #output: NodeJS.WriteStream;
  readonly #input: NodeJS.ReadStream;
  #leave: (() => void) | undefined;

  constructor(output: NodeJS.WriteStream = process.stdout, input: NodeJS.ReadStream = process.stdin) {
    this.#output = output;
    this.#input = input;
  }

  get width(): number {
    return this.#output.columns ?? 80;
  }

  get rows(): number {
    return this.#output.rows ?? 24;
  }

  /** Takes the terminal. @param leave called for `q`, Ctrl-C and Escape */
  open(leave: () => void): void {
    this.#leave = leave;
    // The other screen, so that what was on this one is there again afterwards; no cursor.
    this.#output.write(`${ESCAPE}?1049h${ESCAPE}?25l`);
    if (this.#input.isTTY) {
      this.#input.setRawMode(true);
      this.#input.on('data', this.#key);
      this.#input.resume();
    }
  }

  /** Draws over what is there, line by line: nothing is blank in between. */
  draw(lines: readonly string[]): void {
    const shown = lines.slice(0, this.rows).map((line) => `${cut(line, this.width)}${ESCAPE}K`);
    this.#output.write(`${ESCAPE}H${shown.join('\r\n')}${ESCAPE}J`);
  }

  close(): void {
    this.#input.off('data', this.#key);
    if (this.#input.isTTY) {
      this.#input.setRawMode(false);
      this.#input.pause();
    }
    this.#output.write(`${ESCAPE}?25h${ESCAPE}?1049l`);
  }

  readonly #key = (bytes: Buffer): void => {
    const text = bytes.toString('latin1');
    if (text === 'q' || text === 'Q' || text === '\u0003' || text === '\u001b') {
      this.#leave?.();
    }
  };
}
