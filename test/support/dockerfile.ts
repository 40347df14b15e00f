/** A reader of the parts of Dockerfiles that ours has: stages, and instructions with their flags, words or shell text. */

export interface Instruction {
  readonly name: string;
  /** `--from=build` as `from` → `build`. */
  readonly flags: ReadonlyMap<string, string>;
  /** The words of the exec form, or of an instruction that takes words. */
  readonly words: readonly string[];
  /** All after the flags, as it stands. */
  readonly text: string;
  /** Whether the words came as a JSON list: nothing runs them but the kernel. */
  readonly isExec: boolean;
}

export interface Stage {
  readonly image: string;
  readonly name: string | undefined;
  readonly instructions: readonly Instruction[];
}

/** @throws Error for what it does not know, so that no step of a file is passed over */
export function readDockerfile(text: string): Stage[] {
  const stages: { image: string; name: string | undefined; instructions: Instruction[] }[] = [];
  for (const line of logicalLines(text)) {
    const instruction = readInstruction(line);
    if (instruction.name === 'FROM') {
      const [image, as, name] = instruction.words;
      if (image === undefined || (as !== undefined && as.toUpperCase() !== 'AS')) {
        throw new Error(`not understood: ${line}`);
      }
      stages.push({ image, name, instructions: [] });
    } else {
      const stage = stages.at(-1);
      if (stage === undefined) {
        throw new Error(`before the first FROM: ${line}`);
      }
      stage.instructions.push(instruction);
    }
  }
  return stages;
}

/** Without comments and empty lines, and with continued lines as one. */
function logicalLines(text: string): string[] {
  const kept = text.split('\n').filter((line) => line.trim() !== '' && !line.trimStart().startsWith('#'));
  return kept
    .join('\n')
    .replace(/\\\n\s*/g, ' ')
    .split('\n');
}

const KNOWN = new Set([
  'FROM',
  'RUN',
  'WORKDIR',
  'COPY',
  'ENV',
  'LABEL',
  'USER',
  'STOPSIGNAL',
  'HEALTHCHECK',
  'ENTRYPOINT',
  'CMD',
]);

function readInstruction(line: string): Instruction {
  const [, name = '', rest = ''] = /^\s*([A-Za-z]+)\s+(.*)$/s.exec(line) ?? [];
  if (!KNOWN.has(name)) {
    throw new Error(`not understood: ${line}`);
  }
  const flags = new Map<string, string>();
  const text = rest.replace(/^(--[a-z-]+=\S+\s+)+/, (said) => {
    for (const [, flag, value] of said.matchAll(/--([a-z-]+)=(\S+)/g)) {
      flags.set(flag!, value!);
    }
    return '';
  });
  const list = text.replace(/^CMD\s+/, '');
  const isExec = list.startsWith('[');
  return { name, flags, text, isExec, words: isExec ? (JSON.parse(list) as string[]) : wordsOf(text) };
}

/** `a="b c" d` → `a=b c`, `d`. */
function wordsOf(text: string): string[] {
  return (text.match(/(?:"[^"]*"|[^\s"])+/g) ?? []).map((word) => word.replaceAll('"', ''));
}

/** The only instruction of this name in a stage. */
export function theOnly(stage: Stage, name: string): Instruction {
  const found = stage.instructions.filter((each) => each.name === name);
  if (found.length !== 1) {
    throw new Error(`${found.length} instructions ${name}`);
  }
  return found[0]!;
}

/** What the stage sets with ENV. */
export function environmentOf(stage: Stage): Record<string, string> {
  const pairs = stage.instructions
    .filter(({ name }) => name === 'ENV')
    .flatMap(({ words }) => words.map((word) => word.split('=', 2) as [string, string]));
  return Object.fromEntries(pairs);
}
