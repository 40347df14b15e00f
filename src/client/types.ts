import type { DekdError } from '../errors.ts';
import type { FieldPath, Fields, FieldsDefinition } from './fields/types.ts';

/** Caller's map of non-secret strings that a ciphertext is bound to. Never stored, needed again to decrypt. */
export type EncryptionContext = Readonly<Record<string, string>>;

/** Accepted on every call. */
export interface CallOptions {
  /** Aborts the call: it rejects with `signal.reason`, and the agent is told to stop. */
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds until the call rejects with DEADLINE_EXCEEDED, waiting for a connection included; default 10,000. */
  readonly timeoutMs?: number | undefined;
}

/** Which key a value belongs to and what it is bound to. On decrypt, key and partition are assertions. */
export interface Binding {
  readonly key: string;
  /** The tenant; absent means none. */
  readonly partition?: string | undefined;
  readonly context?: EncryptionContext | undefined;
}

/**
 * Under which root of the agent the key's version hangs that encrypts; absent leaves it to the agent. Takes a right of its own:
 * `roots` lists what may be chosen. Opening names none: every ciphertext says itself what opens it.
 */
export interface RootOption {
  readonly root?: string | undefined;
}

export interface EncryptOptions extends Binding, RootOption, CallOptions {}

/** Names the key the token must be of, or takes the token's own where policy grants `anyKey`. */
export type DecryptOptions = CallOptions &
  (Binding | { readonly anyKey: true; readonly context?: EncryptionContext | undefined });

/** `timeoutMs` is how long the agent may be silent while the stream waits for it; the stream itself may take any time. */
export interface EncryptStreamOptions extends EncryptOptions {
  /** Bytes of plaintext in each frame of the message, 1 to 1,048,576; default 65,536. */
  readonly frameLength?: number | undefined;
}

/** `true` is the best that the agent has: zstd. */
export type CompressionChoice = boolean | 'zstd' | 'gzip';

export interface EncryptLargeOptions extends EncryptStreamOptions {
  /**
   * Compresses the value before it is encrypted, in the agent; off unless given. The length of a compressed value says
   * something of what is in it: leave it off where an attacker can have a say in a part of the value and see lengths.
   */
  readonly compression?: CompressionChoice | undefined;
}

export type DecryptLargeOptions = DecryptOptions & {
  /** Bytes that the value may have; default 268,435,456. A longer one rejects with INVALID_ARGUMENT. */
  readonly maxOutput?: number | undefined;
};

/** Those of the types of Node or of the DOM, where a project has them: these here need none. */
declare global {
  namespace NodeJS {
    interface ReadWriteStream {}
  }
  interface ReadableStream<R> {}
  interface WritableStream<W> {}
}

/** A Duplex of `node:stream`. */
export type MessageDuplex = NodeJS.ReadWriteStream & {
  readonly destroyed: boolean;
  destroy(error?: Error): unknown;
};

/** A pair of web streams, for `pipeThrough`: what is written to the one is read, as the other form, from the other. */
export interface MessageTransform {
  readonly readable: ReadableStream<Uint8Array>;
  /** `close` resolves when the agent has vouched for the whole message, which it does once the result has been read. */
  readonly writable: WritableStream<Uint8Array>;
}

/** A message that can be read from anywhere: an object in a store that knows ranges, a file of another machine. */
export interface MessageSource {
  /** Bytes of the whole message. A wrong size is found out where it matters. */
  readonly size: number;
  /** Bytes from `position` on: at least one, at most `length`. They are not changed afterwards. */
  read(position: number, length: number): Promise<Uint8Array>;
}

/** A FileHandle of `node:fs/promises`, which stays open. */
export interface OpenFile {
  stat(): Promise<{ readonly size: number }>;
  read(buffer: Uint8Array, offset: number, length: number, position: number): Promise<{ readonly bytesRead: number }>;
}

/** Offsets in the plaintext: from `start` up to and without `end`, or to its end. */
export interface ByteRange {
  readonly start: number;
  readonly end?: number | undefined;
}

/** Options of a batch: what an item does not say comes from here. `root` is of no meaning to `decryptMany`. */
export interface ManyOptions extends RootOption, CallOptions {
  readonly key?: string | undefined;
  readonly partition?: string | undefined;
  readonly context?: EncryptionContext | undefined;
}

export type ManyDecryptOptions = ManyOptions & { readonly anyKey?: boolean | undefined };

/** One item of a batch: bytes, or bytes with a binding of its own. */
export type ManyItem =
  | Uint8Array
  | {
      readonly data: Uint8Array;
      readonly key?: string | undefined;
      readonly partition?: string | undefined;
      readonly context?: EncryptionContext | undefined;
      readonly root?: string | undefined;
    };

/** Which key makes or verifies a MAC, and what it binds beside the data. */
export interface HmacOptions extends Binding, CallOptions {}

/**
 * How text is made the same before it is indexed: `nfkc` (one form of each character, NFKC), `lowercase` (by Unicode, whatever the
 * locale), `trim` (no white space around it), `digits` (nothing but 0 to 9, of any script's digits that NFKC makes those),
 * `email` (nfkc, lowercase, trim).
 */
export type NamedNormalisation = 'nfkc' | 'lowercase' | 'trim' | 'digits' | 'email';

/** Steps are done in order; a function is given the text and returns text. */
export type Normalisation = NamedNormalisation | readonly NamedNormalisation[] | ((value: string) => string);

/** What an index is of: values under one key, partition, table and column are comparable, and no others. */
export interface IndexBinding {
  readonly key: string;
  /** The tenant; absent means none. */
  readonly partition?: string | undefined;
  readonly table: string;
  readonly column: string;
  /** Bits of the result: whole bytes, 16 to 256; default 128. */
  readonly bits?: number | undefined;
  /** None unless given: text is indexed as its UTF-8 bytes. */
  readonly normalise?: Normalisation | undefined;
}

export interface BlindIndexOptions extends IndexBinding, CallOptions {}

/** Options of a batch: what an item does not say comes from here. */
export interface ManyBlindIndexOptions extends Partial<IndexBinding>, CallOptions {}

/** A value, or one with an index of its own. */
export type BlindIndexItem = Uint8Array | string | ({ readonly value: Uint8Array | string } & Partial<IndexBinding>);

export interface FingerprintOptions extends CallOptions {
  readonly key: string;
  /** The tenant; absent means none. Equal values of two tenants have different fingerprints. */
  readonly partition?: string | undefined;
}

/** What became of one item that gives text. */
export type TextResult =
  | { readonly ok: true; readonly value: string }
  | { readonly ok: false; readonly error: DekdError };

/** What became of one item. Values of one batch share one ArrayBuffer. */
export type ManyResult =
  | { readonly ok: true; readonly value: Uint8Array }
  | { readonly ok: false; readonly error: DekdError };

export interface KeyVersionInfo {
  /** Lower hex; in the clear in every ciphertext of this version. */
  readonly kid: string;
  /** `seal` for tokens, `message` for streams, `mac`, `index`; versions of each count from 1. */
  readonly purpose: string;
  readonly version: number;
  readonly state: string;
  readonly created: string;
  /** Name of the root that it hangs under. */
  readonly root?: string;
}

/** What this caller may do with a key. */
export interface KeyRights {
  /** Names of operations as in the agent's policy: `encrypt`, `decrypt`, `reencrypt`, `keyInfo`, `anyKey` and what later agents have. */
  readonly operations: readonly string[];
  /** Whether encrypting makes the key where there is none. */
  readonly create: boolean;
  /** Names of the roots that may be chosen. */
  readonly roots: readonly string[];
  /** The key has tokens only: the provider of its root encrypts each value itself. */
  readonly direct: boolean;
}

/** A root that this caller may choose. */
export interface RootDescription {
  readonly name: string;
  /** `local`, `aws-kms`, `vault-transit`, `pkcs11`. */
  readonly provider: string;
  /** What a call hangs under that names no root. */
  readonly isDefault: boolean;
}

/** What an application may know of a key. */
export interface KeyDescription {
  readonly key: string;
  readonly partition: string;
  readonly algorithm: string;
  readonly requiredContext: readonly string[];
  readonly versions: readonly KeyVersionInfo[];
}

export interface PingReply {
  readonly agent: string;
  readonly engine: string;
  readonly lockLevel: string;
  readonly protocol: number;
  readonly roundTripMs: number;
}

/** What the client needs of a tracer of @opentelemetry/api: `trace.getTracer('my-application')` is one. */
export interface Tracer {
  startSpan(
    name: string,
    options: { readonly kind: number; readonly attributes: Readonly<Record<string, string | number>> },
  ): TracerSpan;
}

export interface TracerSpan {
  spanContext(): { readonly traceId: string; readonly spanId: string; readonly traceFlags: number };
  setAttribute(name: string, value: string): unknown;
  setStatus(status: { readonly code: number }): unknown;
  end(): void;
}

export interface ConnectOptions {
  /** Path of the agent's data socket; default: DEKD_SOCKET, then the usual places. */
  readonly socket?: string | undefined;
  /** Default of every call's `timeoutMs`. */
  readonly timeoutMs?: number | undefined;
  /** Starts a private agent as a child when no socket is there, and stops it at exit. */
  readonly spawn?: boolean | undefined;
  /** What tells this caller from others of its user, where the agent's rules ask for it: the 32 bytes of a token. */
  readonly token?: Uint8Array | undefined;
  /** Path of a file with the token, read again for each connection; default: DEKD_TOKEN_FILE. */
  readonly tokenFile?: string | undefined;
  /** `false` sends every value over the socket; else memory is shared with an agent on this host where that is faster. */
  readonly lane?: boolean | undefined;
  /**
   * Makes a span of every request, in the trace that is active, and tells the agent of it: its log, and calls to the provider of
   * a root key, then name the trace. Traced values of one tick do not share a frame.
   */
  readonly tracer?: Tracer | undefined;
  /** Whether spans have names of keys: `dekd.key`. Off unless given. */
  readonly traceKeys?: boolean | undefined;
}

/** What the client can do beyond what every client can. */
export type Capabilities =
  | {
      /** Memory is shared with the agent. */
      readonly lane: true;
    }
  | {
      readonly lane: false;
      /** Why not, for people. */
      readonly reason: string;
    };

/**
 * A connection to the agent: lazy, pipelined, re-established on its own. Safe to share; close it once.
 *
 * Every call rejects with DekdError. Byte arguments must not change until the call settles; results are the caller's.
 */
export interface DekdClient extends AsyncDisposable {
  /** What is in use now; a lane is opened by the first `allocate` or large value. */
  readonly capabilities: Capabilities;
  /**
   * A buffer of zeros in memory that the agent sees too, so that its bytes are sent nowhere: to be passed, whole or as one
   * `subarray`, to `encrypt` and `decrypt`. The result of such a call is a view of room that lies beside the buffer, valid
   * until the next call with the same buffer, of which there is one at a time. The memory is given back when neither
   * buffer nor results are in use any more. Where there is no lane, or no room, it is an ordinary buffer.
   * Rejects with INVALID_ARGUMENT over the largest value of the lane.
   */
  allocate(length: number, options?: CallOptions): Promise<Uint8Array>;
  /** Encrypts to a binary token, 58 bytes longer than `data`. */
  encrypt(data: Uint8Array, options: EncryptOptions): Promise<Uint8Array>;
  /** Encrypts UTF-8 text to a text token, `dk1.…`, safe in JSON, URLs and headers. */
  encryptText(text: string, options: EncryptOptions): Promise<string>;
  decrypt(token: Uint8Array, options: DecryptOptions): Promise<Uint8Array>;
  decryptText(token: string, options: DecryptOptions): Promise<string>;
  /** One result per item, in order; rejects only when the whole call failed. Larger batches are split by the client. */
  encryptMany(items: readonly ManyItem[], options?: ManyOptions): Promise<ManyResult[]>;
  decryptMany(items: readonly ManyItem[], options?: ManyDecryptOptions): Promise<ManyResult[]>;
  /** Moves a token to the newest version of the same key, partition and context, inside the agent. */
  reencrypt(token: Uint8Array, options: EncryptOptions): Promise<Uint8Array>;
  /** The same of a text token. */
  reencryptText(token: string, options: EncryptOptions): Promise<string>;
  /** As `encryptMany`, of tokens; items are moved one by one, and may be of several keys. */
  reencryptMany(items: readonly ManyItem[], options?: ManyOptions): Promise<ManyResult[]>;
  /**
   * The plaintexts of envelopes that an application made itself, before: `{ "__enc": 1, "kid", "iv", "ct" }` as JSON text in
   * UTF-8, one an item. The key only says whose right it is (`openLegacy` in the policy); the context is of no meaning.
   */
  openLegacy(envelopes: readonly ManyItem[], options?: ManyOptions): Promise<ManyResult[]>;
  /**
   * Tokens of the key, bound to the context, with what such envelopes hold; the plaintext stays in the agent. A right of its own,
   * `migrateLegacy`.
   */
  migrateLegacy(envelopes: readonly ManyItem[], options?: ManyOptions): Promise<ManyResult[]>;
  /**
   * The MAC (HMAC-SHA-256) of bytes, or of the UTF-8 of text, bound to key, partition and context: 50 bytes that say which version
   * of the key made them, so that they verify after it was rotated. A key of the same name as for `encrypt` is another key.
   */
  hmac(data: Uint8Array | string, options: HmacOptions): Promise<Uint8Array>;
  /** The same as text, `dm1.…`, safe in JSON, URLs and headers. */
  hmacText(data: Uint8Array | string, options: HmacOptions): Promise<string>;
  /**
   * Whether `mac`, in either form, is of this data, key, partition and context; compared in the agent, in constant time. Anything
   * else is `false`, be it of another key, of none, or no MAC at all. Rejects with KEY_DISABLED where the version that made it
   * must not be used any more.
   */
  verifyHmac(data: Uint8Array | string, mac: Uint8Array | string, options: HmacOptions): Promise<boolean>;
  /**
   * What equal values can be found by without being known: lowercase hexadecimal text, the same for the same value under the same key,
   * partition, table and column. Says which rows have equal values to whoever sees it, and which value to whoever may ask for
   * indexes of a dictionary: a right and a quota of its own. Rejects with RESOURCE_EXHAUSTED and `retryAfterMs` over it.
   */
  blindIndex(value: Uint8Array | string, options: BlindIndexOptions): Promise<string>;
  /**
   * One result per value, in order. What the quota does not give at once is waited for until the deadline: `timeoutMs` is how
   * long a large batch may take.
   */
  blindIndexMany(values: readonly BlindIndexItem[], options: ManyBlindIndexOptions): Promise<TextResult[]>;
  /**
   * 64 lowercase hexadecimal characters that are the same for the same value under the same key and partition, to find
   * duplicates and to name secrets in an audit. Takes the right and the quota of `blindIndex`.
   */
  fingerprint(value: Uint8Array | string, options: FingerprintOptions): Promise<string>;
  /**
   * A Duplex that makes a message of what is written to it: to be read by `decryptStream`, and by whoever has the key in the
   * AWS Encryption SDK. Never resumed: what breaks it destroys it. `compression` as of `encryptLarge`; ranges of a compressed
   * message are UNSUPPORTED.
   */
  encryptStream(options: EncryptLargeOptions): MessageDuplex;
  /**
   * A Duplex that gives the plaintext of the message that is written to it, frame by frame, each verified before any byte
   * of it is given out. Only its end says that the message was complete: until then do not act on what was read.
   */
  decryptStream(options: DecryptOptions): MessageDuplex;
  /** `encryptStream` as a pair of web streams: `request.body.pipeThrough(dekd.encryptWebStream(options))`. */
  encryptWebStream(options: EncryptLargeOptions): MessageTransform;
  /**
   * `decryptStream` as a pair of web streams: `response.body.pipeThrough(dekd.decryptWebStream(options))`. Both sides end
   * with the same error, be it of the message, the agent or `signal`, or with the reason given to `abort` or `cancel`.
   */
  decryptWebStream(options: DecryptOptions): MessageTransform;
  /**
   * Makes a message of a file, with frames of 1 MiB unless told otherwise. The target is there whole, or as it was before.
   * Rejects with a DekdError, or with the error of the file system.
   */
  encryptFile(source: string, target: string, options: EncryptStreamOptions): Promise<void>;
  /** The reverse of `encryptFile`; a new target is for its owner only. */
  decryptFile(source: string, target: string, options: DecryptOptions): Promise<void>;
  /**
   * What `plaintext.subarray(start, end)` of a message is, of which only the header and the frames that it lies in are read.
   * Each of them is verified to be that frame of that message. That frames outside of the range are there and unchanged is
   * not; only a range without `end`, or with one behind the end, says where the message ends, and is MALFORMED when that is
   * missing.
   *
   * Takes the right to decrypt. The whole range is held in memory: `decryptRangeStream` is for more.
   * Rejects with UNSUPPORTED for a signed, a compressed message and one in one piece, which have no parts; with MALFORMED for a source
   * whose size no message has; with errors of the source as they are.
   */
  decryptRange(
    source: string | OpenFile | MessageSource,
    range: ByteRange,
    options: DecryptOptions,
  ): Promise<Uint8Array>;
  /**
   * The same in pieces, as they are verified, at constant memory: for `for await`, `pipeline`, `Readable.from` and
   * `ReadableStream.from`. Whoever stops reading before the end, stops the agent.
   */
  decryptRangeStream(
    source: string | OpenFile | MessageSource,
    range: ByteRange,
    options: DecryptOptions,
  ): AsyncIterable<Uint8Array>;
  /**
   * A Duplex that makes of the message written to it a new one with the same plaintext, under the newest version of the same key
   * and with the recipients configured now, inside the agent. As with `decryptStream`, only its end says that all was right:
   * what was read before an error is no whole message.
   */
  reencryptStream(options: EncryptOptions): MessageDuplex;
  /** Re-encrypts the message in a file; source and target may be one file. Rejects as `encryptFile` does. */
  reencryptFile(source: string, target: string, options: EncryptOptions): Promise<void>;
  /**
   * Makes one message of a value of any size: bytes as they are, everything else as JSON. Rejects with INVALID_ARGUMENT for
   * what JSON would lose: NaN, an infinity, a cycle, a BigInt, undefined, a function.
   */
  encryptLarge(value: unknown, options: EncryptLargeOptions): Promise<Uint8Array>;
  /**
   * The value that `encryptLarge` was given. Nothing of it is given out before the whole message was verified. Rejects with
   * INVALID_ARGUMENT for a message that was not made by it.
   */
  decryptLarge<T = unknown>(message: Uint8Array, options: DecryptLargeOptions): Promise<T>;
  /**
   * Encrypts named values of rows of type `T`, and nothing else of them: `dekd.fields<User>()({ key, fields: ['email'],
   * context: (user) => ({ user: user.id }) })`. Throws INVALID_ARGUMENT for a definition that says something impossible.
   */
  fields<T>(): <const P extends FieldPath<T>>(definition: FieldsDefinition<T, P>) => Fields<T, P>;
  keyInfo(key: string, options?: CallOptions & { readonly partition?: string | undefined }): Promise<KeyDescription>;
  /**
   * The roots that this caller may choose: for `key`, or without it for some key at all. Rejects with PERMISSION_DENIED for a key
   * that it may neither encrypt nor re-encrypt with, and with UNSUPPORTED by an agent that lets nobody choose.
   */
  roots(
    options?: CallOptions & { readonly key?: string | undefined; readonly partition?: string | undefined },
  ): Promise<readonly RootDescription[]>;
  /** What rules grant this caller on a key, whether or not there is such a key. Rejects with UNSUPPORTED by an older agent. */
  rights(key: string, options?: CallOptions & { readonly partition?: string | undefined }): Promise<KeyRights>;
  ping(options?: CallOptions): Promise<PingReply>;
  /**
   * Waits for calls in flight (at most their deadlines), then closes; later calls reject with AGENT_UNAVAILABLE, and so do
   * streams that are open.
   */
  close(): Promise<void>;
}
