/** A module of the user's, loaded, checked, and put into the form of what is measured. */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { BenchCiphertext, BenchModule } from '../../client/bench-module.ts';
import { CommandError, EXIT, usageError } from '../exit.ts';
import { count } from '../terminal.ts';
import { inFlight } from './in-flight.ts';
import { batchFor, type Way, widthFor } from './way.ts';

/** How long one call outside of the measurement may take. */
const PATIENCE_MS = 30_000;
/** Values of a batch that are checked. */
const CHECKED = 3;
const OPTIONAL = ['decrypt', 'encryptMany', 'setup', 'teardown'] as const;
const REMEDY = 'see "Measure" in docs/command-line.md, and the type BenchModule of dekd/client';

export class OwnModule {
  readonly name: string;
  readonly #module: BenchModule;

  private constructor(name: string, module: BenchModule) {
    this.name = name;
    this.#module = module;
  }

  /** @throws CommandError when there is no such file, it does not load, or does not export what it should */
  static async load(path: string): Promise<OwnModule> {
    const file = resolve(path);
    if (!existsSync(file)) {
      throw usageError(`${path} is not there`, 'name the file of a module that exports encrypt(bytes)');
    }
    let loaded: Record<string, unknown>;
    try {
      loaded = (await import(pathToFileURL(file).href)) as Record<string, unknown>;
    } catch (error) {
      throw fault(path, `does not load: ${reasonOf(error)}`);
    }
    return new OwnModule(nameOf(path, loaded), checkedModule(path, loaded));
  }

  async setup(): Promise<void> {
    await this.#try('setup', () => this.#module.setup?.());
  }

  async teardown(): Promise<void> {
    await this.#try('teardown', () => this.#module.teardown?.());
  }

  /**
   * Looks, before anything is timed, whether what the module does depends on what it is given.
   * @returns how values of this size are to be measured
   * @throws CommandError that says what is wrong with a result
   */
  async waysFor(bytes: number, data: Uint8Array): Promise<Way[]> {
    const isAsync = await this.#checkEncrypt(bytes);
    const ways: Way[] = [this.#single(data, isAsync)];
    if (isAsync) {
      const width = widthFor(bytes);
      const call = this.#call(data);
      ways.push({
        name: `${this.name}: ${count(width)} calls in flight`,
        of: 'own',
        items: 1,
        width,
        work: (calls) => this.#told('encrypt', inFlight(width, calls * width, call)),
      });
    }
    const items = batchFor(bytes);
    if (this.#module.encryptMany !== undefined && items > 1) {
      await this.#checkMany(bytes, items);
      const values = Array.from({ length: items }, () => data);
      ways.push({
        name: `${this.name}: batches of ${count(items)}`,
        of: 'own',
        items,
        width: 1,
        work: (calls) =>
          this.#told(
            'encryptMany',
            inFlight(1, calls, async () => this.#module.encryptMany!(values)),
          ),
      });
    }
    return ways;
  }

  #call(data: Uint8Array): () => Promise<unknown> {
    return async () => this.#module.encrypt(data);
  }

  /** What is synchronous is measured in a plain loop: a promise for each call would be a cost of ours. */
  #single(data: Uint8Array, isAsync: boolean): Way {
    const way = { name: `${this.name}: one call at a time`, of: 'own', items: 1, width: 1 } as const;
    if (isAsync) {
      const call = this.#call(data);
      return { ...way, call, work: (calls) => this.#told('encrypt', inFlight(1, calls, call)) };
    }
    return {
      ...way,
      work: (calls) => {
        let made: unknown;
        try {
          for (let i = 0; i < calls; i++) {
            made = this.#module.encrypt(data);
          }
          // Given back, so that no work is dropped.
          return made;
        } catch (error) {
          throw fault(this.name, `encrypt failed: ${reasonOf(error)}`);
        }
      },
    };
  }

  /** @returns whether `encrypt` returns a promise */
  async #checkEncrypt(bytes: number): Promise<boolean> {
    const [first, second] = [randomBytes(bytes), randomBytes(bytes)];
    const kept = Buffer.from(first);
    let isAsync = false;
    const one = await this.#try('encrypt', () => {
      const made = this.#module.encrypt(first);
      isAsync = isThenable(made);
      return made;
    });
    if (!kept.equals(first)) {
      throw fault(this.name, 'encrypt changed the bytes that it was given');
    }
    const other = await this.#try('encrypt', () => this.#module.encrypt(second));
    await this.#checkResult('encrypt', kept, one);
    await this.#checkResult('encrypt', second, other);
    if (bytesOf(one)!.equals(bytesOf(other)!)) {
      throw fault(this.name, 'encrypt made the same of two different values');
    }
    return isAsync;
  }

  async #checkMany(bytes: number, items: number): Promise<void> {
    const values = Array.from({ length: items }, () => randomBytes(bytes));
    const results = await this.#try('encryptMany', () => this.#module.encryptMany!(values));
    if (!Array.isArray(results) || results.length !== items) {
      const made = Array.isArray(results) ? `${results.length} results` : `a result of type ${typeOf(results)}`;
      throw fault(this.name, `encryptMany made ${made} of ${items} values`);
    }
    for (let i = 0; i < CHECKED; i++) {
      const at = Math.round((i * (items - 1)) / (CHECKED - 1));
      await this.#checkResult('encryptMany', values[at]!, results[at] as BenchCiphertext);
    }
  }

  async #checkResult(by: string, plaintext: Buffer, ciphertext: BenchCiphertext): Promise<void> {
    const made = bytesOf(ciphertext);
    if (made === undefined) {
      throw fault(this.name, `${by} made a result of type ${typeOf(ciphertext)}, not bytes or text`);
    }
    if (made.length === 0) {
      throw fault(this.name, `${by} made an empty result of ${plaintext.length} bytes`);
    }
    if (made.equals(plaintext)) {
      throw fault(this.name, `${by} gave back what it was given`);
    }
    if (this.#module.decrypt === undefined) {
      // Random bytes cannot be made shorter; a service that keeps them and gives a name for them can show it by decrypt.
      if (made.length < plaintext.length) {
        throw fault(
          this.name,
          `${by} made ${made.length} bytes of ${plaintext.length} random ones, which cannot hold them; export decrypt to show that they can be had again`,
        );
      }
      return;
    }
    const opened = await this.#try('decrypt', () => this.#module.decrypt!(ciphertext));
    const plain = typeof opened === 'string' ? undefined : bytesOf(opened);
    if (plain === undefined) {
      throw fault(this.name, `decrypt made a result of type ${typeOf(opened)}, not bytes`);
    }
    if (!plain.equals(plaintext)) {
      throw fault(this.name, `decrypt does not give back what ${by} was given (${plaintext.length} bytes)`);
    }
  }

  /** One call outside of the measurement; what goes wrong in it is told with its name. */
  async #try<T>(what: string, operation: () => T | Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    try {
      return await Promise.race([
        operation(),
        new Promise<never>((_resolve, reject) => {
          timer = setTimeout(() => reject(new Error(`not done in ${PATIENCE_MS / 1_000} s`)), PATIENCE_MS);
        }),
      ]);
    } catch (error) {
      throw fault(this.name, `${what} failed: ${reasonOf(error)}`);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Calls of the measurement: told with their name too. */
  #told(what: string, calls: Promise<void>): Promise<void> {
    return calls.catch((error: unknown) => {
      throw fault(this.name, `${what} failed: ${reasonOf(error)}`);
    });
  }
}

function checkedModule(path: string, loaded: Record<string, unknown>): BenchModule {
  const inner = loaded.default;
  const members = (typeof loaded.encrypt === 'function' ? loaded : inner) as Partial<BenchModule> | undefined;
  if (typeof members?.encrypt !== 'function') {
    const names = Object.keys(loaded).filter((name) => name !== 'module.exports');
    throw fault(path, `exports no function encrypt; it exports ${names.length === 0 ? 'nothing' : names.join(', ')}`);
  }
  for (const name of OPTIONAL) {
    if (members[name] !== undefined && typeof members[name] !== 'function') {
      throw fault(path, `exports ${name}, which is ${typeOf(members[name])} and not a function`);
    }
  }
  // A default export may be an object whose methods need it.
  return members as BenchModule;
}

function nameOf(path: string, loaded: Record<string, unknown>): string {
  const given = loaded.name ?? (loaded.default as { name?: unknown } | undefined)?.name;
  return typeof given === 'string' && given !== '' ? given : basename(path);
}

function fault(name: string, what: string): CommandError {
  return new CommandError(EXIT.failed, 'INVALID_ARGUMENT', `${name}: ${what}`, REMEDY);
}

function reasonOf(error: unknown): string {
  if (error instanceof CommandError) {
    return error.message;
  }
  return error instanceof Error ? error.message : String(error);
}

function isThenable(value: unknown): boolean {
  return typeof (value as { then?: unknown } | null | undefined)?.then === 'function';
}

/** A view of the same bytes; undefined for what is neither bytes nor text. */
function bytesOf(value: unknown): Buffer | undefined {
  if (typeof value === 'string') {
    return Buffer.from(value);
  }
  if (value instanceof Uint8Array) {
    return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  }
  return value instanceof ArrayBuffer ? Buffer.from(value) : undefined;
}

function typeOf(value: unknown): string {
  return value === null ? 'null' : typeof value;
}
