import { hex } from '../bytes.ts';
import { DekdError, type ErrorCode } from '../errors.ts';
import type { KeyRecord, UsageLease } from '../keyring/record.ts';
import type {
  Expectation,
  Keystore,
  KeystoreCapabilities,
  KeystoreHealth,
  ListFilter,
  ListPage,
} from '../keystores/keystore.ts';
import { decodeRecord, encodeRecord } from '../keystores/record-codec.ts';
import type { Failure, KeystoreOperation } from './custodian-messages.ts';
import { type CustodianAnswer, CustodianLost } from './custodian-process.ts';
import { expectationJson, leaseFromJson, leaseJson } from './keystore-json.ts';
import type { Succession } from './succession.ts';
import { booleanOf, Garbage, nothingOf, objectOf, textOf } from './untrusted.ts';

/** For one call, whatever the driver's own time-outs are. */
const CALL_MS = 10_000;
/** For opening: the first agent after an upgrade brings the schema up to date. */
const OPEN_MS = 30_000;
const MAX_DETAIL = 2_000;
const MAX_CURSOR = 16 * 1024;

/** What a keystore may fail with, opening included. */
const CODES: ReadonlySet<string> = new Set<ErrorCode>([
  'CONFLICT',
  'KEYSTORE_UNAVAILABLE',
  'KEY_NOT_FOUND',
  'UNSUPPORTED',
  'UNSUPPORTED_VERSION',
  'INVALID_ARGUMENT',
  'INTERNAL',
]);

/**
 * A keystore whose driver runs in a custodian. Rows come back as data of which only the shape is known; what they say is
 * for the keyring to judge, as with every keystore.
 */
export class CustodianKeystore implements Keystore {
  readonly kind: string;
  readonly identity: string | undefined;
  readonly #name: string;
  readonly #custodians: Succession;
  readonly #capabilities: KeystoreCapabilities;
  #closed = false;

  private constructor(
    name: string,
    custodians: Succession,
    kind: string,
    identity: string | undefined,
    capabilities: KeystoreCapabilities,
  ) {
    this.#name = name;
    this.#custodians = custodians;
    this.kind = kind;
    this.identity = identity;
    this.#capabilities = capabilities;
  }

  /**
   * @param name of the keystore in the configuration
   * @param custodians of the keystore role; not this object's to close
   * @throws as the keystore's own opening does
   */
  static async open(name: string, custodians: Succession): Promise<CustodianKeystore> {
    return ask(custodians, name, 'open', {}, OPEN_MS, ({ value }) => {
      const fields = objectOf(value, 'the reply to open');
      const identity = fields.identity === undefined ? undefined : textOf(fields.identity, 'identity', 64);
      return new CustodianKeystore(name, custodians, textOf(fields.kind, 'kind', 64), identity, {
        durable: booleanOf(fields.durable, 'durable'),
        writable: booleanOf(fields.writable, 'writable'),
        watch: false,
      });
    });
  }

  store(record: KeyRecord, expect: Expectation): Promise<void> {
    return this.#tell('store', { record: encodeRecord(record), expect: expectationJson(expect) });
  }

  retrieve(kid: Uint8Array): Promise<KeyRecord | undefined> {
    return this.#ask('retrieve', { kid: hex(kid) }, (answer) => {
      const records = recordsOf(answer);
      if (records.length > 1) {
        throw new Garbage('more than one record of a kid');
      }
      return records[0];
    });
  }

  versions(name: string, partition: string, purpose: string): Promise<readonly KeyRecord[]> {
    return this.#ask('versions', { name, partition, purpose }, recordsOf);
  }

  updateMetadata(changes: readonly { readonly record: KeyRecord; readonly expect: Expectation }[]): Promise<void> {
    return this.#tell('updateMetadata', {
      changes: changes.map(({ record, expect }) => ({
        record: encodeRecord(record),
        expect: expectationJson(expect),
      })),
    });
  }

  delete(tombstone: KeyRecord, expect: Expectation): Promise<void> {
    return this.#tell('delete', { record: encodeRecord(tombstone), expect: expectationJson(expect) });
  }

  list(filter: ListFilter, cursor: string | undefined, limit: number): Promise<ListPage> {
    return this.#ask('list', { filter, cursor, limit }, (answer) => {
      const fields = objectOf(answer.value, 'the reply to list');
      const records = recordsOf({ ...answer, value: null });
      if (records.length > limit) {
        throw new Garbage('a page over its limit');
      }
      return {
        records,
        cursor: fields.cursor === undefined ? undefined : textOf(fields.cursor, 'cursor', MAX_CURSOR),
      };
    });
  }

  leases(): Promise<readonly UsageLease[]> {
    return this.#ask('leases', {}, ({ value, body, rows }) => {
      nothingOf(value, body, 'the reply to leases');
      return rows.map(leaseFromJson);
    });
  }

  storeLease(lease: UsageLease): Promise<void> {
    return this.#tell('storeLease', { lease: leaseJson(lease) });
  }

  async health(): Promise<KeystoreHealth> {
    try {
      return await this.#ask('health', {}, ({ value }) => {
        const fields = objectOf(value, 'the reply to health');
        return { ok: booleanOf(fields.ok, 'ok'), detail: textOf(fields.detail, 'detail', MAX_DETAIL) };
      });
    } catch (error) {
      const { reason, message } = DekdError.from(error);
      return { ok: false, detail: reason ?? message };
    }
  }

  capabilities(): KeystoreCapabilities {
    return this.#capabilities;
  }

  /** The custodian goes on: it may have other keystores. */
  async close(): Promise<void> {
    this.#closed = true;
  }

  async #ask<T>(
    operation: KeystoreOperation,
    args: Readonly<Record<string, unknown>>,
    read: (answer: CustodianAnswer) => T,
  ): Promise<T> {
    if (this.#closed) {
      throw new DekdError('KEYSTORE_UNAVAILABLE', 'the keystore is closed');
    }
    return ask(this.#custodians, this.#name, operation, { ...args, identity: this.identity }, CALL_MS, read);
  }

  #tell(operation: KeystoreOperation, args: Readonly<Record<string, unknown>>): Promise<void> {
    return this.#ask(operation, args, ({ value, body }) => nothingOf(value, body, `the reply to ${operation}`));
  }
}

/** @throws DekdError as `Keystore` says */
async function ask<T>(
  custodians: Succession,
  target: string,
  operation: KeystoreOperation,
  args: Readonly<Record<string, unknown>>,
  timeoutMs: number,
  read: (answer: CustodianAnswer) => T,
): Promise<T> {
  const signal = AbortSignal.timeout(timeoutMs);
  try {
    return await custodians.call({ target, operation, args, bringsRows: true, read, failed }, signal);
  } catch (error) {
    if (error instanceof CustodianLost) {
      throw unavailable(target, error.message, error.retryAfterMs);
    }
    throw error === signal.reason ? unavailable(target, `${operation} was not answered in ${timeoutMs} ms`) : error;
  }
}

function unavailable(name: string, reason: string, retryAfterMs?: number): DekdError {
  return new DekdError('KEYSTORE_UNAVAILABLE', 'the keystore does not answer', {
    reason: `keystore ${name}: ${reason}`,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}

function failed({ code, message, detail, retryAfterMs }: Failure): DekdError {
  if (!CODES.has(code)) {
    throw new Garbage('a failure of no known code');
  }
  return new DekdError(code as ErrorCode, message, {
    ...(detail === undefined ? {} : { reason: detail }),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}

/** @throws Garbage */
function recordsOf({ value, body, rows }: CustodianAnswer): KeyRecord[] {
  nothingOf(value, body, 'a reply of records');
  try {
    return rows.map(decodeRecord);
  } catch (error) {
    throw new Garbage(`a record whose ${(error as Error).message}`);
  }
}
