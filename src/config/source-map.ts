/** The YAML text of a configuration: its plain value, and the line on which each key stands. */
import { isMap, isPair, isScalar, isSeq, LineCounter, type Node, type Pair, parseDocument, visit } from 'yaml';
import { type ConfigProblem, isNameOfJavaScript } from './problems.ts';
import type { KeyPath } from './resolve.ts';

export class YamlSource {
  readonly name: string;
  readonly #lines = new LineCounter();
  readonly #document;
  #value: Record<string, unknown> = {};

  /** @param name of the file, for messages */
  constructor(name: string, yamlText: string) {
    this.name = name;
    this.#document = parseDocument(yamlText, { lineCounter: this.#lines, prettyErrors: false, version: '1.2' });
  }

  /** What makes the text no configuration at all: broken YAML, duplicate keys, names that mean something to JavaScript. */
  problems(): ConfigProblem[] {
    const problems: ConfigProblem[] = this.#document.errors.map((error) => ({
      path: '',
      source: this.#at(error.pos[0]),
      message: `not valid YAML: ${error.message.split('\n')[0]}`,
    }));
    visit(this.#document, {
      Pair: (_, pair) => {
        if (isScalar(pair.key) && pair.key.value === 'keyContext') {
          // There any name is a name.
          return visit.SKIP;
        }
        if (isScalar(pair.key) && isNameOfJavaScript(String(pair.key.value))) {
          problems.push({
            path: String(pair.key.value),
            source: this.#at(pair.key.range?.[0] ?? 0),
            message: 'unknown key',
          });
        }
        return undefined;
      },
    });
    const root = this.#document.contents;
    if (problems.length === 0 && root !== null && !isMap(root) && !(isScalar(root) && root.value === null)) {
      problems.push({ path: '', source: this.#at(0), message: 'expected a mapping of keys' });
    }
    if (problems.length === 0) {
      try {
        this.#value = (this.#document.toJS() as Record<string, unknown> | null) ?? {};
      } catch (error) {
        // Aliases are resolved only here: of an anchor that is not there, and of so many that they would fill the memory.
        problems.push({ path: '', source: this.name, message: `not valid YAML: ${(error as Error).message}` });
      }
    }
    return problems;
  }

  /** The plain value; only after `problems` found none. */
  value(): Record<string, unknown> {
    return this.#value;
  }

  /** `file:line` of the key at `path`, else of the nearest one above it that is there. */
  locate(path: KeyPath): string {
    let node: Node | null = this.#document.contents;
    let offset: number | undefined;
    for (const step of path) {
      if (isMap(node)) {
        const pair: Pair | undefined = node.items.find(
          (item) => isPair(item) && isScalar(item.key) && String(item.key.value) === String(step),
        );
        if (!pair) {
          break;
        }
        offset = (pair.key as Node).range?.[0];
        node = pair.value as Node | null;
      } else if (isSeq(node)) {
        node = (node.items[Number(step)] as Node | undefined) ?? null;
        offset = node?.range?.[0] ?? offset;
      } else {
        break;
      }
    }
    return offset === undefined ? this.name : this.#at(offset);
  }

  #at(offset: number): string {
    return `${this.name}:${this.#lines.linePos(offset).line}`;
  }
}
