/** Reads an exposition as strictly as Prometheus does, and more: every sample belongs to the family above it. */

export interface ReadFamily {
  readonly type: string;
  readonly help: string;
  readonly samples: readonly ReadSample[];
}

export interface ReadSample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const HEAD = /^# (HELP|TYPE) ([a-z_][a-z0-9_]*) (.+)$/;
const SAMPLE = /^([a-z_][a-z0-9_]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-z_][a-z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)/y;

/** Families by name. @throws Error naming the line that is not as it must be */
export function readExposition(text: string): Map<string, ReadFamily> {
  if (!text.endsWith('\n')) {
    throw new Error('the last line has no end');
  }
  const families = new Map<string, { type: string; help: string; samples: ReadSample[] }>();
  let current = '';
  for (const line of text.split('\n').slice(0, -1)) {
    if (line === '# EOF') {
      continue;
    }
    const head = HEAD.exec(line);
    if (head !== null) {
      const [, what, name, rest] = head;
      if (what === 'HELP') {
        if (families.has(name!)) {
          throw new Error(`family ${name} comes twice`);
        }
        current = name!;
        families.set(current, { type: '', help: rest!, samples: [] });
      } else if (name !== current) {
        throw new Error(`TYPE of ${name} below HELP of ${current}`);
      } else {
        families.get(current)!.type = rest!;
      }
      continue;
    }
    const sample = SAMPLE.exec(line);
    if (sample === null) {
      throw new Error(`no sample: ${line}`);
    }
    const [, name, labels = '', value] = sample;
    if (name!.replace(/_(bucket|sum|count|total)$/, '') !== current.replace(/_total$/, '') && name !== current) {
      throw new Error(`${name} stands below ${current}`);
    }
    families.get(current)!.samples.push({ name: name!, labels: readLabels(labels, line), value: numberOf(value!) });
  }
  return families;
}

/** The value of the one sample with these labels; undefined when there is none. */
export function sampleOf(
  families: ReadonlyMap<string, ReadFamily>,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number | undefined {
  const family = families.get(name) ?? families.get(name.replace(/_(bucket|sum|count)$/, ''));
  return family?.samples.find(
    (sample) => sample.name === name && Object.entries(labels).every(([label, text]) => sample.labels[label] === text),
  )?.value;
}

function readLabels(text: string, line: string): Record<string, string> {
  const labels: Record<string, string> = {};
  LABEL.lastIndex = 0;
  while (LABEL.lastIndex < text.length) {
    const label = LABEL.exec(text);
    if (label === null) {
      throw new Error(`labels that cannot be read: ${line}`);
    }
    labels[label[1]!] = label[2]!;
  }
  return labels;
}

function numberOf(text: string): number {
  const value = text === '+Inf' ? Number.POSITIVE_INFINITY : Number(text);
  if (Number.isNaN(value)) {
    throw new Error(`no number: ${text}`);
  }
  return value;
}
