/**
 * What an engine does: keys by handle, XAES-256-GCM tokens, wrapping, HMAC, messages. Three engines implement it with the same
 * bytes and the same errors: `native` (locked memory, OpenSSL), `node` (node:crypto), `noble` (pure JavaScript).
 *
 * Key bytes appear in this interface in two places only, `importSecret` and `exposeSecret`, for a provider's library
 * that the configuration lets run inside the agent. A nonce appears nowhere: engines draw their own.
 */

/** Opaque number naming a key in the engine's key table; 0 is never a handle. Stale handles are refused. */
export type KeyHandle = number & { readonly __keyHandle: never };

export type EngineName = 'native' | 'node' | 'noble';
export type Purpose = 'seal' | 'wrap' | 'message' | 'mac' | 'index';
export type Algorithm = 'xaes-256-gcm' | 'esdk-0478' | 'hkdf-sha-256' | 'hmac-sha-256' | 'aes-256-gcm';

/** What one key is for. One key has one purpose and one algorithm. */
export interface KeyUse {
  readonly algorithm: Algorithm;
  readonly purpose: Purpose;
}

/** What a provider wraps: the secret over a key of a record, and the data key of a message. */
export const SECRET_USE: KeyUse = { algorithm: 'hkdf-sha-256', purpose: 'wrap' };
export const DATA_KEY_USE: KeyUse = { algorithm: 'esdk-0478', purpose: 'wrap' };
/** Of a key from elsewhere under which data keys are wrapped, as raw AES keyrings of the AWS Encryption SDK do it. */
export const RAW_AES_USE: KeyUse = { algorithm: 'aes-256-gcm', purpose: 'wrap' };
/** Of a key from elsewhere under which an application sealed values itself; nothing is sealed with it here. */
export const LEGACY_USE: KeyUse = { algorithm: 'aes-256-gcm', purpose: 'seal' };
/** Of a key in the keystore under which data keys are wrapped, and of a message in work. */
export const MESSAGE_KEY_USE: KeyUse = { algorithm: 'esdk-0478', purpose: 'message' };
export const BODY_USE: KeyUse = { algorithm: 'esdk-0478', purpose: 'seal' };

/** Where keys lie: `secret` = memfd_secret, `locked` = mlock and DONTDUMP, `heap` = ordinary memory. */
export type LockLevel = 'secret' | 'locked' | 'heap';

export interface EngineInfo {
  readonly name: EngineName;
  /** Version of the cryptographic library in use, for people. */
  readonly library: string;
  /** Capabilities of the processor the library reports, when it reports them. */
  readonly cpu: string;
  /** Whether key bytes are on the JavaScript heap. */
  readonly keysInJs: boolean;
  readonly lockLevel: LockLevel;
  /** Why the level is not `secret`, for `doctor`; empty when it is. */
  readonly lockReason: string;
}

/** What another thread of the process needs to use an engine's keys by their handles; it can be posted to it. */
export interface EngineShare {
  readonly name: EngineName;
  readonly snapshotSafe: boolean;
  /** Keys of an engine in JavaScript; those of the native one are the process's. */
  readonly keys?: SharedArrayBuffer;
}

export interface KeyTableStats {
  /** Slots in all; the engine throws RESOURCE_EXHAUSTED when all are used. */
  readonly capacity: number;
  readonly used: number;
  /** Keys made or imported since start, and wiped since start. */
  readonly created: number;
  readonly destroyed: number;
}

/** Bytes of a token around its plaintext: C1, suite, kid 16, nonce 24, tag 16. */
export const TOKEN_OVERHEAD = 58;
/** Bytes of a wrapped 32-byte key: 01, nonce 24, ciphertext 32, tag 16. */
export const WRAPPED_KEY_LENGTH = 73;
/** Bytes of HMAC-SHA-256. */
export const MAC_LENGTH = 32;
/** Bytes of a secret that a provider wraps. */
export const SECRET_LENGTH = 32;
/** The longest plaintext of `receiveSealed` and `sendOpened`, in bytes: some four times a large login token. */
export const MAX_PIPED_LENGTH = 16_384;

/** Words of one row in the table of `sealMany`, `openMany`, `macMany` and `verifyMacMany`. */
export const ROW_WORDS = 8;
/** Positions in a row: lengths and offsets in bytes; offsets count from the start of `input` and `output`. */
export const ROW = {
  key: 0,
  contextOffset: 1,
  contextLength: 2,
  dataOffset: 3,
  dataLength: 4,
  outOffset: 5,
  /** Written by the engine: one of ROW_STATUS. A row whose status is `skip` on entry is left alone. */
  status: 6,
  /** Of `macMany` and `verifyMacMany` only: where the row's scope begins in `scopes`. */
  scopeOffset: 7,
} as const;
export const ROW_STATUS = { ok: 0, failed: 1, staleKey: 2, skip: 0xffffffff } as const;

/** Suites of messages that commit to their key (AWS Encryption SDK); 0x0578 is signed as well. */
export type CommittedSuite = 0x0478 | 0x0578;
/** Bytes of a message's id, of what it commits to its data key with, and of the tag of its header. */
export const MESSAGE_ID_LENGTH = 32;
export const COMMITMENT_LENGTH = 32;
export const HEADER_TAG_LENGTH = 16;
/** Bytes of the provider info and of the ciphertext that `wrapDataKey` gives. */
export const DATA_KEY_INFO_LENGTH = 77;
export const ENCRYPTED_DATA_KEY_LENGTH = 48;
/** Bytes of the provider info of a raw AES key behind its name: bits of the tag u32, bytes of the nonce u32, nonce 12. */
export const RAW_AES_INFO_TAIL = 20;

/** A message that is being sealed: its handle, and what its header has to say. The bytes are fresh copies. */
export interface BegunMessage {
  readonly message: KeyHandle;
  readonly id: Uint8Array;
  readonly commitment: Uint8Array;
}

export interface OpenedFrames {
  /** Bytes of the body that were whole frames. */
  readonly consumed: number;
  /** Bytes of plaintext in them, now at the start of the output. */
  readonly produced: number;
  /** The final frame was among them: the message has ended, and what follows is not of its body. */
  readonly final: boolean;
}

export interface Engine {
  readonly info: EngineInfo;
  stats(): KeyTableStats;
  /** For `attachEngine` in a worker; undefined where its keys were not opened to be shared. */
  share(): EngineShare | undefined;
  /** Wipes copies of keys that this thread has of a shared table; the keys live on. */
  forgetKeys(): void;

  // ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────────
  /** Makes a random 32-byte key. @throws RESOURCE_EXHAUSTED when the table is full. */
  generateKey(use: KeyUse): KeyHandle;
  /**
   * Reads a key (32 bytes as one base64 line) from the current position of `fd` to its end, straight into the table; the
   * caller keeps and closes `fd`. It is a root key, for SECRET_USE, unless `use` is RAW_AES_USE or LEGACY_USE; for the last
   * it may also be the 32 bytes themselves.
   * @throws INVALID_ARGUMENT when it is not exactly that, or for another use.
   */
  readRootKey(fd: number, use?: KeyUse): KeyHandle;
  /** Draws a new root key and writes it to `fd` as `readRootKey` reads it; keeps nothing. */
  writeRootKey(fd: number): void;
  /**
   * DELIBERATELY writes a key out: to `fd`, as `readRootKey` reads it. The bytes do not pass JavaScript with the native engine.
   * @throws INVALID_ARGUMENT unless `key` is for SECRET_USE, or when it cannot be written
   */
  writeKey(key: KeyHandle, fd: number): void;
  /** Wipes the key; later use of the handle is refused. Destroying a stale handle does nothing. */
  destroyKey(key: KeyHandle): void;
  /** The 16 bytes that commit to key, algorithm and purpose. A fresh copy. */
  kid(key: KeyHandle): Uint8Array;

  // ── wrapping ──────────────────────────────────────────────────────────────────────────────────────────────────
  /**
   * Wraps `key` with XAES-256-GCM under HKDF-SHA-256(`parent`, empty salt, `label`, 32).
   * @returns 01 ‖ nonce 24 ‖ ciphertext 32 ‖ tag 16. @throws INVALID_ARGUMENT when `parent` is not for wrap.
   */
  wrapKey(parent: KeyHandle, label: string, key: KeyHandle, aad: Uint8Array): Uint8Array;
  /** The reverse of `wrapKey`. @throws DECRYPTION_FAILED; RESOURCE_EXHAUSTED when the table is full. */
  unwrapKey(parent: KeyHandle, label: string, wrapped: Uint8Array, aad: Uint8Array, use: KeyUse): KeyHandle;
  /**
   * Makes HKDF-SHA-256(`parent`, empty salt, `label`, 32) a key of `use`. Nobody gets from it back to the parent, which lives on.
   * @throws INVALID_ARGUMENT when `parent` is not for SECRET_USE; RESOURCE_EXHAUSTED when the table is full
   */
  deriveKey(parent: KeyHandle, label: string, use: KeyUse): KeyHandle;
  /**
   * HMAC-SHA-256 of `data` under HKDF-SHA-256(`parent`, empty salt, `label`, 32) of a key for hkdf-sha-256, or when
   * `label` is empty under `parent` itself, a key for hmac-sha-256. @throws INVALID_ARGUMENT for keys of other algorithms.
   */
  mac(parent: KeyHandle, label: string, data: Uint8Array): Uint8Array;
  /** Whether `mac` of the same arguments equals `expected`, compared in constant time. */
  verifyMac(parent: KeyHandle, label: string, data: Uint8Array, expected: Uint8Array): boolean;

  // ── the key pipe ──────────────────────────────────────────────────────────────────────────────────────────────
  //
  // Carries secrets to and from a process that runs a provider's library. A frame is u32 big-endian id, u32 big-endian
  // length, bytes; `fd` is the own end of a pipe of `openPipe` in `host.ts`, which does not block, and stays the
  // caller's. The id, a whole number of 32 bits, is the caller's name for the call.
  //
  // Every method throws KMS_UNAVAILABLE, with the reason for the operator, when a frame cannot be written, is not there
  // whole, or is not what was waited for. The two ends then no longer agree on where a frame begins: close the pipe. No
  // other error does that.
  /** Writes the key as a frame. @throws INVALID_ARGUMENT unless `key` is for SECRET_USE or DATA_KEY_USE. */
  sendKey(fd: number, id: number, key: KeyHandle): void;
  /**
   * Reads a frame of 32 bytes into the table, as a key for SECRET_USE unless `use` is DATA_KEY_USE. Ask only when the other
   * end has said that the frame is written. @throws RESOURCE_EXHAUSTED when the table is full; the frame is then lost.
   */
  receiveKey(fd: number, id: number, use?: KeyUse): KeyHandle;
  /**
   * Reads a frame of 1 to MAX_PIPED_LENGTH bytes and seals it at once under `key`, as `seal` does.
   * @param context canonical bytes. @returns the token. @throws as `seal` does; the frame is then lost.
   */
  receiveSealed(fd: number, id: number, key: KeyHandle, context: Uint8Array): Uint8Array;
  /**
   * Opens what `receiveSealed` gave and writes the plaintext as a frame. @throws DECRYPTION_FAILED when it is anything
   * else, and then nothing is written; INVALID_ARGUMENT when `key` is not for seal.
   */
  sendOpened(fd: number, id: number, key: KeyHandle, token: Uint8Array, context: Uint8Array): void;

  // ── secrets in JavaScript: only for a provider's library that runs in the agent ───────────────────────────────
  /**
   * Makes a key of 32 bytes, for SECRET_USE unless `use` is DATA_KEY_USE or LEGACY_USE, and zero-fills `bytes` in the same call whatever
   * comes of it.
   * @throws INVALID_ARGUMENT on another length or use; RESOURCE_EXHAUSTED when the table is full.
   */
  importSecret(bytes: Uint8Array, use?: KeyUse): KeyHandle;
  /**
   * DELIBERATELY hands out the bytes of a key. @returns a fresh copy of 32 bytes, which the caller wipes.
   * @throws INVALID_ARGUMENT unless `key` is for SECRET_USE or DATA_KEY_USE.
   */
  exposeSecret(key: KeyHandle): Uint8Array;

  // ── tokens ───────────────────────────────────────────────────────────────────────────────────────────────────────
  /**
   * Seals `input[dataOffset, +dataLength)` with the context at `input[contextOffset, +contextLength)` (canonical
   * bytes, as `src/envelope/context.ts` makes them) and writes the whole token, dataLength + TOKEN_OVERHEAD bytes, at
   * `output[outOffset]`.
   * @throws INTERNAL on a stale handle; INVALID_ARGUMENT when the key is not for seal, when a region leaves its
   * buffer, or when the output region lies over what is read. Nothing is written then.
   */
  seal(
    key: KeyHandle,
    input: Uint8Array,
    contextOffset: number,
    contextLength: number,
    dataOffset: number,
    dataLength: number,
    output: Uint8Array,
    outOffset: number,
  ): void;
  /**
   * Opens the token at `input[dataOffset, +dataLength)` and writes its plaintext, dataLength - TOKEN_OVERHEAD bytes, at
   * `output[outOffset]`. The head (C1, suite 01, kid of `key`) is part of what is authenticated.
   * @returns false when it does not authenticate or is shorter than TOKEN_OVERHEAD; the output region is then zero.
   * @throws as `seal` does.
   */
  open(
    key: KeyHandle,
    input: Uint8Array,
    contextOffset: number,
    contextLength: number,
    dataOffset: number,
    dataLength: number,
    output: Uint8Array,
    outOffset: number,
  ): boolean;
  /**
   * `seal` for `count` rows of `table` (ROW_WORDS each): one nonce draw for the call, the row's index added to it.
   * A stale handle is the row's status, and its output region is zero. What else `seal` throws for is looked for in all
   * rows first: then nothing is written and no status either.
   */
  sealMany(table: Uint32Array, count: number, input: Uint8Array, output: Uint8Array): void;
  /**
   * `open` for `count` rows of `table`, checked as in `sealMany`; the status word says which opened, and the output
   * region of a row that did not is zero.
   */
  openMany(table: Uint32Array, count: number, input: Uint8Array, output: Uint8Array): void;

  /**
   * Opens what AES-256-GCM sealed elsewhere under a key for LEGACY_USE, with a nonce of 12 bytes, a tag of 16 and no
   * additional data, and writes `sealed.length` - 16 bytes at `output[outOffset]`.
   * @param sealed ciphertext ‖ tag
   * @returns false when it does not authenticate or is shorter than a tag; the output region is then zero.
   * @throws INTERNAL on a stale handle; INVALID_ARGUMENT for keys of other uses, another length of the nonce, and where the
   * output leaves its buffer or lies over the input.
   */
  openLegacy(key: KeyHandle, nonce: Uint8Array, sealed: Uint8Array, output: Uint8Array, outOffset: number): boolean;

  // ── MACs ─────────────────────────────────────────────────────────────────────────────────────────────────────────
  /**
   * HMAC-SHA-256 for `count` rows of `table`, MAC_LENGTH bytes each at `output[outOffset]`, of
   * scope ‖ u32 length of context ‖ context ‖ u32 length of data ‖ data, lengths big-endian. `scopes` holds u16 length and
   * bytes of each scope, which say what the MAC is for; a row's begins at its `scopeOffset`.
   * A stale handle is the row's status, and its output region is zero.
   * @throws INVALID_ARGUMENT for a key of another algorithm, a region that leaves its buffer or output over what is read:
   * looked for in all rows first, then nothing is written.
   */
  macMany(table: Uint32Array, count: number, scopes: Uint8Array, input: Uint8Array, output: Uint8Array): void;
  /**
   * Compares, in constant time, MAC_LENGTH bytes at `input[outOffset]` of each row with what `macMany` gives for it: the
   * status word says `ok` or `failed`. Checked and refused as in `macMany`.
   */
  verifyMacMany(table: Uint32Array, count: number, scopes: Uint8Array, input: Uint8Array): void;

  // ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────────
  //
  // Of the AWS Encryption SDK, message format version 2; header bytes are those of `src/envelope/message-header.ts`. A
  // data key is a key of use DATA_KEY_USE. A message in work is a key too, derived from it: its handle is destroyed as
  // that of any key. The engine keeps where the work stands, so that every nonce is used once: a header is sealed or
  // verified once, before the first frame; after a failure, and after the final frame, the message has ended. What
  // comes out of order is INVALID_ARGUMENT. Messages work on any thread, by one call at a time, destroying them included.
  /**
   * Wraps a data key under a message key of the keystore, in the layout of raw AES keyrings. `context` is the whole
   * serialised encryption context of the message.
   * @returns provider info ‖ encrypted data key, a fresh copy. @throws INVALID_ARGUMENT for keys of other uses.
   */
  wrapDataKey(messageKey: KeyHandle, dataKey: KeyHandle, context: Uint8Array): Uint8Array;
  /** The reverse of `wrapDataKey`. @throws DECRYPTION_FAILED; RESOURCE_EXHAUSTED when the table is full. */
  unwrapDataKey(messageKey: KeyHandle, info: Uint8Array, encrypted: Uint8Array, context: Uint8Array): KeyHandle;
  /**
   * Wraps a data key as raw AES keyrings do, under a key for RAW_AES_USE itself; `name` is what that key is called, UTF-8.
   * Such a key is good for 2^32 wraps, by all who have it.
   * @returns provider info, which is `name` and RAW_AES_INFO_TAIL bytes, ‖ encrypted data key, a fresh copy.
   * @throws INVALID_ARGUMENT for keys of other uses.
   */
  wrapDataKeyUnder(rawKey: KeyHandle, name: Uint8Array, dataKey: KeyHandle, context: Uint8Array): Uint8Array;
  /** The reverse of `wrapDataKeyUnder`. @throws DECRYPTION_FAILED; RESOURCE_EXHAUSTED when the table is full. */
  unwrapDataKeyUnder(
    rawKey: KeyHandle,
    name: Uint8Array,
    info: Uint8Array,
    encrypted: Uint8Array,
    context: Uint8Array,
  ): KeyHandle;
  /**
   * Begins a message of suite 0x0478 with `frameLength` bytes of plaintext in every frame but the last.
   * @throws INVALID_ARGUMENT on a frame length outside 1 to 2^32 - 1; RESOURCE_EXHAUSTED when the table is full.
   */
  beginMessage(dataKey: KeyHandle, frameLength: number): BegunMessage;
  /**
   * Takes a message up that is there; `frameLength` 0 says that its body is not framed.
   * @throws DECRYPTION_FAILED when `commitment` is not to this data key; RESOURCE_EXHAUSTED when the table is full.
   */
  resumeMessage(
    dataKey: KeyHandle,
    suite: CommittedSuite,
    id: Uint8Array,
    frameLength: number,
    commitment: Uint8Array,
  ): KeyHandle;
  /**
   * The tag of a header. `required` is the serialised pairs of the context that are not in it.
   * @throws INVALID_ARGUMENT for a message whose header was sealed before.
   */
  sealHeader(message: KeyHandle, header: Uint8Array, required: Uint8Array): Uint8Array;
  /** Whether `tag` is the one of the header; frames can be opened only when it is. */
  verifyHeader(message: KeyHandle, header: Uint8Array, required: Uint8Array, tag: Uint8Array): boolean;
  /**
   * Writes the next frames to `output`: whole ones, and when `final` also the final frame, which holds 1 to frameLength
   * bytes, or none if the message has none.
   * @throws INVALID_ARGUMENT when `output` is not exactly as long as those frames, or lies over `plaintext`; when a part
   * before the final one is not whole frames; when the message has no more sequence numbers. Nothing is written then.
   */
  sealFrames(message: KeyHandle, plaintext: Uint8Array, final: boolean, output: Uint8Array): void;
  /**
   * Opens the frames that are whole in `body`, beginning with the next one; `output` is at least as long as `body`.
   * @returns undefined for a frame that was changed or is not the next; `output` then holds none of this call.
   */
  openFrames(message: KeyHandle, body: Uint8Array, output: Uint8Array): OpenedFrames | undefined;
  /**
   * Says which frame `openFrames` gets next, counting from 1, to read a part of a framed body. That the message is
   * complete only its final frame shows.
   */
  seekFrame(message: KeyHandle, sequence: number): void;

  /** `length` bytes from the engine's random source. */
  random(length: number): Uint8Array;
  /** Wipes every key. The engine is unusable afterwards. */
  close(): void;
}
