/** Which operation answers which request, on which socket. */
import { DekdError } from '../errors.ts';
import type { Keyring } from '../keyring/keyring.ts';
import { blindIndex } from '../operations/blind-index.ts';
import { decryptMany, decryptValue } from '../operations/decrypt.ts';
import { encryptMany, encryptValue } from '../operations/encrypt.ts';
import type { OperationsEnvironment, Outcome } from '../operations/environment.ts';
import { hmacMany, hmacValue } from '../operations/hmac.ts';
import { decryptShared, encryptShared } from '../operations/lane.ts';
import { passLegacy } from '../operations/legacy.ts';
import type { MessageRequest } from '../operations/message-begin.ts';
import { decryptFiles, encryptFiles } from '../operations/message-files.ts';
import { reencryptingWork } from '../operations/message-reencryption.ts';
import { openingWork, sealingWork } from '../operations/message-streams.ts';
import { reencryptMany, reencryptValue } from '../operations/reencrypt.ts';
import type { Caller } from '../operations/request.ts';
import { verifyHmacMany, verifyHmacValue } from '../operations/verify-hmac.ts';
import { messages } from '../protocol/messages.ts';
import { OPERATION, type RequestReader } from '../protocol/request-reader.ts';
import type { Admin } from './admin.ts';
import type { AgentAudit } from './audit.ts';
import type { CallerChoice } from './caller-choice.ts';
import type { Connection } from './connection.ts';
import { admit } from './gate.ts';
import type { Lane } from './lane.ts';
import { MAX_FILES_IN_WORK } from './lane-limits.ts';
import { kindOf } from './request-kinds.ts';

const STREAM_WORK = { encrypt: sealingWork, decrypt: openingWork, reencrypt: reencryptingWork } as const;

export interface DispatcherOptions {
  readonly env: OperationsEnvironment;
  readonly keyring: Keyring;
  /** What callers may choose among. */
  readonly choice: CallerChoice;
  readonly admin: Admin;
  /** Undefined where there is none. */
  readonly audit: AgentAudit | undefined;
  /** Undefined without the native engine, or where it is switched off. */
  readonly lane: Lane | undefined;
  /** What Ping answers. */
  readonly identity: () => unknown;
}

/** By the numbers of OpenStream. Every Node that an agent runs on has zstd, which is faster and smaller. */
const CODECS = [undefined, 'zstd', 'gzip', 'zstd'] as const;
const CONTENTS = [undefined, 'bytes', 'json'] as const;

/**
 * A stream has a slot of the key table for itself, and one that re-encrypts has two and counts twice: all of them together have an
 * eighth of the table, and this many slots at most.
 */
const MAX_STREAMS = 128;
const MAX_STREAMS_OF_ONE = 32;

export class Dispatcher {
  readonly #options: DispatcherOptions;
  #streams = 0;
  #filesInWork = 0;

  constructor(options: DispatcherOptions) {
    this.#options = options;
  }

  /** A request on the data socket. */
  handleData(connection: Connection<Caller>, request: RequestReader): Outcome {
    readOperation(request);
    if (!connection.caller.isGated) {
      return this.#perform(connection, request);
    }
    const end = admit(connection.caller, request);
    if (end === undefined) {
      return this.#perform(connection, request);
    }
    let outcome: Outcome;
    try {
      outcome = this.#perform(connection, request);
    } catch (error) {
      end();
      throw error;
    }
    if (outcome === undefined) {
      end();
      return undefined;
    }
    return outcome.finally(end);
  }

  #perform(connection: Connection<Caller>, request: RequestReader): Outcome {
    const { env, audit } = this.#options;
    const { caller } = connection;
    if (audit !== undefined && request.operation !== OPERATION.ping) {
      audit.admit();
    }
    switch (request.operation) {
      case OPERATION.encrypt:
        return encryptValue(env, caller, request, connection);
      case OPERATION.decrypt:
        return decryptValue(env, caller, request, connection);
      case OPERATION.reencrypt:
        return reencryptValue(env, caller, request, connection);
      case OPERATION.encryptMany:
        return encryptMany(env, caller, request, connection);
      case OPERATION.decryptMany:
        return decryptMany(env, caller, request, connection);
      case OPERATION.reencryptMany:
        return reencryptMany(env, caller, request, connection);
      case OPERATION.hmac:
        return hmacValue(env, caller, request, connection);
      case OPERATION.verifyHmac:
        return verifyHmacValue(env, caller, request, connection);
      case OPERATION.hmacMany:
        return hmacMany(env, caller, request, connection);
      case OPERATION.verifyHmacMany:
        return verifyHmacMany(env, caller, request, connection);
      case OPERATION.blindIndex:
        return blindIndex(env, caller, request, connection);
      case OPERATION.openLegacy:
        return passLegacy(env, caller, request, connection, 'openLegacy');
      case OPERATION.migrateLegacy:
        return passLegacy(env, caller, request, connection, 'migrateLegacy');
      case OPERATION.encryptStream:
        return this.#stream('encrypt', connection, request, caller);
      case OPERATION.decryptStream:
        return this.#stream('decrypt', connection, request, caller);
      case OPERATION.reencryptStream:
        return this.#stream('reencrypt', connection, request, caller);
      case OPERATION.laneEncrypt:
      case OPERATION.laneDecrypt:
        return this.#shared(connection, request);
      case OPERATION.fileEncrypt:
        return this.#files('encrypt', connection, request);
      case OPERATION.fileDecrypt:
        return this.#files('decrypt', connection, request);
      case OPERATION.keyInfo:
        return this.#keyInfo(connection, request);
      case OPERATION.roots:
        return this.#choice('roots', connection, request);
      case OPERATION.rights:
        return this.#choice('rights', connection, request);
      case OPERATION.ping:
        connection.document(request.id, this.#options.identity());
        return undefined;
      case OPERATION.admin:
        throw new DekdError('PERMISSION_DENIED', 'admin commands are answered on the admin socket only');
      case OPERATION.hello:
        throw new DekdError('INVALID_ARGUMENT', 'hello was said already');
      default:
        throw unknownOperation(request.operation);
    }
  }

  /** A request on the admin socket, whose callers are the agent's own uid and root. */
  handleAdmin(connection: Connection<Caller>, request: RequestReader): Outcome {
    const { admin, audit } = this.#options;
    switch (request.operation) {
      case OPERATION.ping:
        connection.document(request.id, this.#options.identity());
        return undefined;
      case OPERATION.admin: {
        const { id } = request;
        const command = request.decode(messages.Admin);
        const run = () => admin.run(command);
        const running = audit === undefined ? run() : audit.command(command, connection.caller.share, run);
        return running.then((document) => {
          if (audit?.isRecorded(command) === true) {
            connection.keepUntilCommitted();
          }
          connection.document(id, document);
        });
      }
      case OPERATION.reencryptStream:
        request.readOpenStream();
        return this.#stream('reencrypt', connection, request, operatorOf(connection.caller));
      case OPERATION.hello:
        throw new DekdError('INVALID_ARGUMENT', 'hello was said already');
      default:
        if (kindOf(request.operation).operation !== 'unknown') {
          throw new DekdError('UNSUPPORTED', 'this operation is answered on the data socket');
        }
        throw unknownOperation(request.operation);
    }
  }

  #shared(connection: Connection<Caller>, request: RequestReader): Outcome {
    const { env, lane } = this.#options;
    if (lane === undefined || connection.lane === undefined) {
      throw new DekdError('UNSUPPORTED', 'this agent has no lane: send the bytes with the request');
    }
    const place = connection.lane.place(request.input, request.result);
    if (request.operation === OPERATION.laneEncrypt) {
      return encryptShared(env, lane.environment, connection.caller, request, place, connection);
    }
    lane.used();
    return decryptShared(env, lane.environment, connection.caller, request, place, connection);
  }

  async #files(
    operation: 'encrypt' | 'decrypt',
    connection: Connection<Caller>,
    request: RequestReader,
  ): Promise<void> {
    const { env } = this.#options;
    const { caller } = connection;
    const { id } = request;
    // One by one: what a message does not say is on its prototype.
    const { key, partition, root, context, anyKey, frameLength, handle } = request.decode(messages.FileCall);
    const files = connection.lane?.takeFiles(handle);
    if (files === undefined) {
      throw new DekdError('INVALID_ARGUMENT', `there are no files ${handle}, or none any more: pass them again`);
    }
    try {
      if (this.#filesInWork >= MAX_FILES_IN_WORK) {
        throw new DekdError(
          'RESOURCE_EXHAUSTED',
          `the agent has ${MAX_FILES_IN_WORK} files in work: send this one as a stream`,
        );
      }
      this.#filesInWork += 1;
      try {
        const run = operation === 'encrypt' ? encryptFiles : decryptFiles;
        const asked = {
          key,
          partition,
          root,
          context,
          anyKey,
          frameLength,
          owner: connection,
          codec: undefined,
          content: undefined,
        };
        const result = await run(env, caller, asked, files, () => connection.checkWanted(id));
        // What they hold is known now only, and paid for by the time after.
        caller.owe(operation, anyKey ? '' : key, partition, result.bytesRead);
        connection.document(id, result);
      } finally {
        this.#filesInWork -= 1;
      }
    } finally {
      files.close();
    }
  }

  async #stream(
    operation: keyof typeof STREAM_WORK,
    connection: Connection<Caller>,
    request: RequestReader,
    caller: Caller,
  ): Promise<void> {
    const { env } = this.#options;
    if (connection.isEnding) {
      throw new DekdError('SHUTTING_DOWN', 'the agent is stopping and begins no stream');
    }
    const most = Math.min(MAX_STREAMS, Math.ceil(env.engine.stats().capacity / 8));
    const slots = operation === 'reencrypt' ? 2 : 1;
    if (connection.streams >= MAX_STREAMS_OF_ONE || this.#streams + slots > most) {
      const limit = connection.streams >= MAX_STREAMS_OF_ONE ? `${MAX_STREAMS_OF_ONE} of a connection` : most;
      throw new DekdError('RESOURCE_EXHAUSTED', `over the limit of ${limit} streams at once`, { retryAfterMs: 1_000 });
    }
    const {
      key,
      partition,
      root,
      anyKey,
      contextOffset,
      contextLength,
      frameLength,
      firstFrame,
      frames,
      compression,
      content,
    } = request;
    const context = new Uint8Array(request.frame.subarray(contextOffset, contextOffset + contextLength));
    const wanted = {
      key,
      partition,
      root,
      anyKey,
      context,
      frameLength,
      owner: connection,
      ...saidOfValue(compression, content),
    };
    const part = firstFrame > 1 || frames > 0 ? { firstFrame: Math.max(1, firstFrame), frames } : undefined;
    if (part !== undefined && operation !== 'decrypt') {
      throw new DekdError('INVALID_ARGUMENT', `only decrypting takes a part of a message, and this is to ${operation}`);
    }
    const pace = caller.isGated
      ? (bytes: number) => caller.owe(operation, anyKey ? '' : key, partition, bytes)
      : undefined;
    this.#options.audit?.streamBegins(operation, caller.share, key, partition);
    connection.keepUntilCommitted();
    const opening = STREAM_WORK[operation](env, caller, { ...wanted, part });
    this.#streams += slots;
    try {
      await connection.stream(request.outline(), opening, pace);
    } finally {
      this.#streams -= slots;
    }
  }

  /** What the caller may choose, or may do at all. */
  #choice(asked: 'roots' | 'rights', connection: Connection<Caller>, request: RequestReader): Outcome {
    const { choice } = this.#options;
    const { id, key, partition } = request;
    const document = choice[asked](connection.caller, key, partition);
    connection.document(id, document);
    return undefined;
  }

  #keyInfo(connection: Connection<Caller>, request: RequestReader): Promise<void> {
    const { keyring } = this.#options;
    const { id, key, partition } = request;
    connection.caller.authorize('keyInfo', key, partition);
    return keyring.describe(key, partition).then((versions) => {
      const newest = versions.findLast(({ purpose }) => purpose === 'seal') ?? versions.at(-1);
      if (newest === undefined) {
        throw new DekdError(
          'KEY_NOT_FOUND',
          `no key '${key}'${partition === '' ? '' : ` of partition '${partition}'`}`,
        );
      }
      connection.document(id, {
        key,
        partition,
        algorithm: newest.algorithm,
        requiredContext: keyring.requiredContext(key),
        versions: versions.map(({ kid, purpose, version, state, created, root }) => ({
          kid,
          purpose,
          version,
          state,
          created,
          ...(root === undefined ? {} : { root }),
        })),
      });
    });
  }
}

/** Reads what the operation of the request says, as far as it is needed before its values. */
function readOperation(request: RequestReader): void {
  switch (request.operation) {
    case OPERATION.encrypt:
    case OPERATION.encryptMany:
    case OPERATION.reencryptMany:
      request.readValues();
      return;
    case OPERATION.reencrypt:
      request.readValues();
      // It has no such field: what is moved is moved to the key that is named, and to nobody else's.
      request.anyKey = false;
      return;
    case OPERATION.decrypt:
    case OPERATION.decryptMany:
    case OPERATION.hmac:
    case OPERATION.verifyHmac:
    case OPERATION.hmacMany:
    case OPERATION.verifyHmacMany:
    case OPERATION.openLegacy:
    case OPERATION.migrateLegacy:
    case OPERATION.fileEncrypt:
    case OPERATION.fileDecrypt:
    case OPERATION.keyInfo:
    case OPERATION.roots:
    case OPERATION.rights:
      request.readBinding();
      return;
    case OPERATION.blindIndex:
      request.readBlindIndex();
      return;
    case OPERATION.encryptStream:
    case OPERATION.decryptStream:
    case OPERATION.reencryptStream:
      request.readOpenStream();
      return;
    case OPERATION.laneEncrypt:
    case OPERATION.laneDecrypt:
      request.readLaneCall();
      return;
    default:
  }
}

/** Who commands the agent may re-encrypt under every key, which shows nothing and makes none. */
function operatorOf(caller: Caller): Caller {
  return {
    share: caller.share,
    gid: caller.gid,
    socket: caller.socket,
    isGated: false,
    charge: () => {},
    begin: () => undefined,
    owe: () => 0,
    checkContext: () => {},
    authorize: () => {},
    allows: (operation) => operation === 'reencrypt',
    rights: () => ['reencrypt'],
    allowsLegacy: () => false,
    authorizeRoot: () => {},
    allowsRoot: (operation) => operation === 'reencrypt',
    maySomewhere: () => true,
    mayCreate: () => false,
    chargeIndex: () => {},
    authorizeCreate: () => {
      throw new DekdError('PERMISSION_DENIED', 'no key is made on the way of a re-encryption');
    },
  };
}

/** What OpenStream says of the value in a message. @throws INVALID_ARGUMENT */
function saidOfValue(compression: number, content: number): Pick<MessageRequest, 'codec' | 'content'> {
  if (compression >= CODECS.length || content >= CONTENTS.length) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `a stream has compression 0 to ${CODECS.length - 1} and content 0 to ${CONTENTS.length - 1}`,
    );
  }
  return { codec: CODECS[compression], content: CONTENTS[content] };
}

function unknownOperation(operation: number): DekdError {
  return operation === 0
    ? new DekdError('INVALID_ARGUMENT', 'the request names no operation')
    : new DekdError('UNSUPPORTED', `operation ${operation} is not known to this agent`);
}
