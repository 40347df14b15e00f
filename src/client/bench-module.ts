/** What a module of your own exports, to be measured beside dekd by `dekd bench --against FILE`. */

/** A ciphertext in the form that your code makes; it is only looked at, and given back to `decrypt`. */
export type BenchCiphertext = Uint8Array | ArrayBuffer | string;

/**
 * Named exports, or members of the default export. Everything may be synchronous or return a promise; what is synchronous
 * is measured so. Called in the process of `dekd bench`, where `encrypt` makes as many calls as fit into its turns: think
 * of the bill and the limits of a service behind it.
 */
export interface BenchModule {
  /** What the rows are called; the name of the file unless given. */
  readonly name?: string;
  /** Called once before everything else: to connect, to make a key. */
  setup?(): unknown;
  /** Encrypts one value, which must not be changed and may be kept; the same value comes many times. */
  encrypt(plaintext: Uint8Array): BenchCiphertext | Promise<BenchCiphertext>;
  /** The reverse of `encrypt`. Never timed: when it is given, it must open what `encrypt` and `encryptMany` made. */
  decrypt?(ciphertext: BenchCiphertext): Uint8Array | ArrayBuffer | Promise<Uint8Array | ArrayBuffer>;
  /** Encrypts many values at once, one result for each, in order: a row of its own beside dekd's batches. */
  encryptMany?(plaintexts: readonly Uint8Array[]): readonly BenchCiphertext[] | Promise<readonly BenchCiphertext[]>;
  /** Called once after everything else, also after a failure. */
  teardown?(): unknown;
}
