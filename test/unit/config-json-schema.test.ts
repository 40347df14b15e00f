import { readdirSync, readFileSync } from 'node:fs';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { describe, expect, it } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { renderJsonSchema } from '../../src/config/json-schema.ts';
import { parseConfig } from '../../src/config/load.ts';
import { renderSample } from '../../src/config/sample.ts';
import { ROOT } from '../support/source-copy.ts';

const text = renderJsonSchema();
const validate = new Ajv2020({ allErrors: true, allowUnionTypes: true }).compile(JSON.parse(text) as object);

function faults(file: unknown): string[] {
  return validate(file) ? [] : validate.errors!.map(({ instancePath, message }) => `${instancePath} ${message}`);
}

/** Files of the name `config.yaml` below deploy/, and those inside of ConfigMaps. */
function deployed(): [string, unknown][] {
  return (readdirSync(`${ROOT}deploy`, { recursive: true }) as string[])
    .filter((name) => name.endsWith('.yaml'))
    .flatMap((name) =>
      parseAllDocuments(readFileSync(`${ROOT}deploy/${name}`, 'utf8')).flatMap((document): [string, unknown][] => {
        const content = document.toJS() as { data?: Record<string, string>; policy?: unknown } | null;
        const inner = content?.data?.['config.yaml'];
        if (inner !== undefined) {
          return [[name, parse(inner)]];
        }
        return content?.policy === undefined ? [] : [[name, content]];
      }),
    );
}

describe('the JSON Schema of the configuration', () => {
  it('is what docs/config.schema.json says', () => {
    expect(readFileSync(`${ROOT}docs/config.schema.json`, 'utf8')).toBe(text);
  });

  it('takes the sample, as it stands and with every key switched on', () => {
    expect(faults(parse(renderSample()))).toEqual([]);
    expect(faults(parse(renderSample().replace(/^( *)#(?=[^ #\n])/gm, '$1')))).toEqual([]);
  });

  it('takes every configuration in deploy/', () => {
    const files = deployed();
    expect(files.length).toBeGreaterThan(0);
    for (const [name, file] of files) {
      expect(faults(file), name).toEqual([]);
    }
  });

  it.each([
    ['an unknown key', 'sockt: {}'],
    ['a choice that there is not', 'engine: rust'],
    ['a number out of range', 'memory: { slots: 1 }'],
    ['a text for a switch', 'socket: { allowOwnUid: "yes" }'],
    ['an unknown key of a rule', 'policy: { rules: [{ name: a, key: b }] }'],
  ])('refuses %s, as the agent does', (_what, yaml) => {
    expect(faults(parse(yaml))).not.toEqual([]);
    expect(() => parseConfig(yaml)).toThrow();
  });
});
