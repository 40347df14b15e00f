/** The file of `dekd policy test`: calls, and what the rules have to say of each. */
import { readFileSync } from 'node:fs';
import type { Operation } from '../config/config.ts';
import { isMapping, nearestName } from '../config/problems.ts';
import { YamlSource } from '../config/source-map.ts';
import type { Peer } from '../policy/policy.ts';
import { CommandError, EXIT } from './exit.ts';
import { type KnownNames, unknownName } from './policy-under-test.ts';

export interface PolicyCase {
  readonly name: string;
  /** `file:line`. */
  readonly source: string;
  readonly peer: Peer;
  readonly operations: readonly Operation[];
  readonly key: string;
  readonly partition: string;
  readonly root: string | undefined;
  /** Undefined when the call has every name that is wanted. */
  readonly context: readonly string[] | undefined;
  readonly expect: 'allow' | 'deny';
  /** A rule that has to be among those that allow it. */
  readonly rule: string | undefined;
}

const FIELDS = [
  ...['name', 'caller', 'operation', 'operations', 'key', 'partition'],
  ...['root', 'context', 'expect', 'rule'],
];
const CALLER_FIELDS = ['uid', 'gid', 'groups', 'socket', 'token'];
const MAX_ID = 0xffff_fffe;

/** @throws CommandError with all that is wrong with the file */
export function readCases(file: string, known: KnownNames): readonly PolicyCase[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new CommandError(EXIT.failed, 'INVALID_ARGUMENT', `${file}: cannot be read (${code})`);
  }
  return new CaseReader(file, text, known).read();
}

class CaseReader {
  readonly #file: string;
  readonly #source: YamlSource;
  readonly #known: KnownNames;
  readonly #problems: string[] = [];

  constructor(file: string, text: string, known: KnownNames) {
    this.#file = file;
    this.#source = new YamlSource(file, text);
    this.#known = known;
  }

  read(): readonly PolicyCase[] {
    this.#problems.push(...this.#source.problems().map(({ source, message }) => `${source}: ${message}`));
    this.#throwAll();
    const document = this.#source.value();
    this.#unknownFields(document, [], ['cases']);
    const list = document.cases;
    if (!Array.isArray(list) || list.length === 0) {
      this.#problem(['cases'], 'expected a list of cases');
    }
    const cases = Array.isArray(list) ? list.map((one, index) => this.#case(one, index)) : [];
    this.#throwAll();
    return cases;
  }

  #throwAll(): void {
    if (this.#problems.length > 0) {
      const count = this.#problems.length === 1 ? '1 problem' : `${this.#problems.length} problems`;
      const lines = this.#problems.map((line) => `  ${line}`).join('\n');
      throw new CommandError(EXIT.failed, 'INVALID_ARGUMENT', `${this.#file}: ${count}\n${lines}`);
    }
  }

  #problem(path: readonly (string | number)[], message: string): void {
    const place = path.map((step, index) => (typeof step === 'number' ? `[${step}]` : index === 0 ? step : `.${step}`));
    this.#problems.push([this.#source.locate(path), place.join(''), message].filter((part) => part !== '').join(': '));
  }

  /** What is missing stands in for itself: nobody sees a case when the file has a problem. */
  #case(given: unknown, index: number): PolicyCase {
    const at = ['cases', index];
    const one = this.#mapping(given, at, FIELDS);
    const named = one.operations === undefined ? 'operation' : 'operations';
    const operations = this.#texts(one[named], [...at, named]);
    if (one.operation !== undefined && one.operations !== undefined) {
      this.#problem(at, 'operation and operations are one field; give one of them');
    }
    if (operations.length === 0) {
      this.#problem([...at, named], 'expected an operation, or a list of them');
    }
    for (const operation of operations) {
      this.#checkName('operation', operation, [...at, named]);
    }
    const key = this.#text(one.key, [...at, 'key']) ?? '';
    if (key === '') {
      this.#problem([...at, 'key'], 'expected the name of a key');
    }
    const { expect } = one;
    if (expect !== 'allow' && expect !== 'deny') {
      this.#problem([...at, 'expect'], 'expected allow or deny');
    }
    if (expect === 'deny' && one.rule !== undefined) {
      this.#problem([...at, 'rule'], 'a denial is of no rule; remove it');
    }
    const partition = this.#text(one.partition, [...at, 'partition']) ?? '';
    return {
      name: this.#text(one.name, [...at, 'name']) ?? `case ${index + 1}`,
      source: this.#source.locate(at),
      peer: this.#peer(one.caller, [...at, 'caller']),
      operations: operations as readonly Operation[],
      key,
      partition,
      root: this.#named('root', one.root, [...at, 'root']),
      context: one.context === undefined ? undefined : this.#texts(one.context, [...at, 'context']),
      expect: expect === 'deny' ? 'deny' : 'allow',
      rule: this.#named('rule', one.rule, [...at, 'rule']),
    };
  }

  #peer(given: unknown, at: readonly (string | number)[]): Peer {
    const caller = this.#mapping(given, at, CALLER_FIELDS);
    const uid = this.#id(caller.uid, [...at, 'uid']);
    return {
      uid,
      gid: caller.gid === undefined ? uid : this.#id(caller.gid, [...at, 'gid']),
      groups: [caller.groups ?? []].flat().map((group) => this.#id(group, [...at, 'groups'])),
      socket: this.#named('socket', caller.socket, [...at, 'socket']) ?? 'data',
      token: this.#named('token', caller.token, [...at, 'token']),
    };
  }

  #mapping(given: unknown, at: readonly (string | number)[], fields: readonly string[]): Record<string, unknown> {
    if (!isMapping(given)) {
      this.#problem(at, `expected a mapping of ${fields.join(', ')}`);
      return {};
    }
    this.#unknownFields(given, at, fields);
    return given;
  }

  #unknownFields(given: Record<string, unknown>, at: readonly (string | number)[], fields: readonly string[]): void {
    for (const name of Object.keys(given).filter((each) => !fields.includes(each))) {
      const near = nearestName(name, fields);
      this.#problem([...at, name], `unknown key${near === undefined ? '' : `; did you mean ${near}?`}`);
    }
  }

  #id(given: unknown, at: readonly (string | number)[]): number {
    if (typeof given === 'number' && Number.isInteger(given) && given >= 0 && given <= MAX_ID) {
      return given;
    }
    this.#problem(at, `expected a whole number from 0 to ${MAX_ID}`);
    return 0;
  }

  #text(given: unknown, at: readonly (string | number)[]): string | undefined {
    if (given === undefined || typeof given === 'string') {
      return given;
    }
    this.#problem(at, 'expected a text; put a number into quotes');
    return undefined;
  }

  #texts(given: unknown, at: readonly (string | number)[]): readonly string[] {
    return given === undefined ? [] : [given].flat().map((each) => this.#text(each, at) ?? '');
  }

  #named(kind: keyof KnownNames, given: unknown, at: readonly (string | number)[]): string | undefined {
    const name = this.#text(given, at);
    if (name !== undefined) {
      this.#checkName(kind, name, at);
    }
    return name;
  }

  #checkName(kind: keyof KnownNames, name: string, at: readonly (string | number)[]): void {
    const trouble = unknownName(kind, name, this.#known);
    if (trouble !== undefined) {
      this.#problem(at, trouble);
    }
  }
}
