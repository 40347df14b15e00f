import type { ServiceKeystoreConfig } from '../config/config.ts';
import { DekdError } from '../errors.ts';
import type { KeyRecord } from '../keyring/record.ts';
import type { Keystore, ListFilter } from '../keystores/keystore.ts';
import { openKeystore } from '../keystores/open-keystore.ts';
import { decodeRecord, encodeRecord, type RecordJson } from '../keystores/record-codec.ts';
import type { Duty, DutyAnswer, DutyCall } from './duty.ts';
import { type ExpectationJson, expectationFromJson, leaseFromJson, leaseJson } from './keystore-json.ts';

/** Keystores, each opened when it is used first. What the agent sends is its own, and only decoded. */
export class KeystoreDuty implements Duty {
  readonly #configs: Readonly<Record<string, ServiceKeystoreConfig>>;
  readonly #keystores = new Map<string, Promise<Keystore>>();

  constructor(configs: Readonly<Record<string, ServiceKeystoreConfig>>) {
    this.#configs = configs;
  }

  async perform({ target, operation, args }: DutyCall): Promise<DutyAnswer> {
    const keystore = await this.#keystore(target, args.identity as string | undefined);
    switch (operation) {
      case 'open':
        return { value: { kind: keystore.kind, identity: keystore.identity, ...keystore.capabilities() } };
      case 'store':
        await keystore.store(decodeRecord(args.record), expected(args.expect));
        return {};
      case 'retrieve': {
        const record = await keystore.retrieve(new Uint8Array(Buffer.from(args.kid as string, 'hex')));
        return { rows: record === undefined ? [] : rowsOf([record]) };
      }
      case 'versions':
        return {
          rows: rowsOf(await keystore.versions(args.name as string, args.partition as string, args.purpose as string)),
        };
      case 'updateMetadata':
        await keystore.updateMetadata(
          (args.changes as { record: unknown; expect: unknown }[]).map(({ record, expect }) => ({
            record: decodeRecord(record),
            expect: expected(expect),
          })),
        );
        return {};
      case 'delete':
        await keystore.delete(decodeRecord(args.record), expected(args.expect));
        return {};
      case 'list': {
        const { records, cursor } = await keystore.list(
          args.filter as ListFilter,
          args.cursor as string | undefined,
          args.limit as number,
        );
        return { value: { cursor }, rows: rowsOf(records) };
      }
      case 'leases':
        return { rows: (await keystore.leases()).map(leaseJson) };
      case 'storeLease':
        await keystore.storeLease(leaseFromJson(args.lease));
        return {};
      case 'health':
        return { value: await keystore.health() };
      default:
        throw new DekdError('UNSUPPORTED', `a keystore has no ${operation}`);
    }
  }

  /** The login of a keystore ends with its custodian: there is no pipe to hand it on. */
  async end(): Promise<void> {
    await Promise.allSettled([...this.#keystores.values()].map(async (opening) => (await opening).close()));
  }

  /** @param identity of the store that the agent has worked with: custodians come and go, and it must stay the same */
  #keystore(target: string, identity: string | undefined): Promise<Keystore> {
    const known = this.#keystores.get(target);
    if (known !== undefined) {
      return known;
    }
    const config = this.#configs[target];
    if (config === undefined) {
      return Promise.reject(new DekdError('INVALID_ARGUMENT', `there is no keystore ${target}`));
    }
    const opening = openKeystore(config, undefined, identity);
    this.#keystores.set(target, opening);
    // What stood in the way may be gone the next time.
    opening.catch(() => this.#keystores.delete(target));
    return opening;
  }
}

function expected(expect: unknown): ReturnType<typeof expectationFromJson> {
  return expectationFromJson(expect as ExpectationJson);
}

/** @throws KEYSTORE_UNAVAILABLE for a row that the agent would take for the garbage of a broken custodian */
function rowsOf(records: readonly KeyRecord[]): RecordJson[] {
  return records.map((record) => {
    const row = encodeRecord(record);
    try {
      decodeRecord(row);
    } catch (error) {
      throw new DekdError('KEYSTORE_UNAVAILABLE', 'a row of the keystore is damaged', {
        reason: `${record.name} version ${record.version}: ${(error as Error).message}`,
      });
    }
    return row;
  });
}
