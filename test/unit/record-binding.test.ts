import { describe, expect, it } from 'vitest';
import type { KeyRecord } from '../../src/keyring/record.ts';
import { metaBytes, wrapAad } from '../../src/keyring/record-binding.ts';
import { recordLike } from '../contract/keystore.contract.ts';

const RECORD: KeyRecord = recordLike({
  kid: new Uint8Array(16).fill(0xab),
  name: 'customers',
  partition: 'acme',
  version: 12,
  parent: { kind: 'key', kid: new Uint8Array(16).fill(1) },
  keyContext: { environment: 'prod' },
  seq: 3n,
});

/** The pairs of an encoding, read by the rules and not by the encoder's code. */
function pairsOf(bytes: Uint8Array): [string, string][] {
  const view = Buffer.from(bytes);
  const prefix = 'dekd/v1/record';
  expect(view.toString('latin1', 0, prefix.length)).toBe(prefix);
  let at = prefix.length + 2;
  const pairs: [string, string][] = [];
  const text = () => {
    const length = view.readUInt16BE(at);
    at += 2 + length;
    return view.toString('utf8', at - length, at);
  };
  while (at < view.length) {
    pairs.push([text(), text()]);
  }
  expect(pairs.length).toBe(view.readUInt16BE(prefix.length));
  return pairs;
}

describe('wrapAad', () => {
  it('names what never changes in the life of a version, sorted, absent values left out', () => {
    expect(pairsOf(wrapAad(RECORD))).toEqual([
      ['algorithm', 'xaes-256-gcm'],
      ['ctx.environment', 'prod'],
      ['kid', 'ab'.repeat(16)],
      ['level', '4'],
      ['name', 'customers'],
      ['node', 'n'],
      ['parent', '01'.repeat(16)],
      ['partition', 'acme'],
      ['purpose', 'seal'],
      ['service', 'default'],
      ['version', '12'],
    ]);
  });

  it('says root for whatever root key, so that the wrapped secret moves alone', () => {
    const under = (resolvedId: string, fill: number): KeyRecord => ({
      ...RECORD,
      parent: {
        kind: 'root',
        reference: { root: 'r', resolvedId, materialVersion: '' },
        wrappedSecret: new Uint8Array(73).fill(fill),
      },
    });
    expect(pairsOf(wrapAad(under('a', 1)))).toContainEqual(['parent', 'root']);
    expect(wrapAad(under('a', 1))).toEqual(wrapAad(under('b', 2)));
    expect(metaBytes(under('a', 1))).toEqual(metaBytes(under('b', 2)));
  });

  it('is the same for every state, seq, date and revision', () => {
    const later: KeyRecord = {
      ...RECORD,
      state: 'suspended',
      seq: 9n,
      revision: 4,
      dates: { created: 1, activated: 2, deactivated: 3, destroyed: 4 },
    };
    expect(wrapAad(later)).toEqual(wrapAad(RECORD));
  });
});

describe('metaBytes', () => {
  it('adds state, size, dates and seq', () => {
    const added = pairsOf(metaBytes(RECORD)).filter(
      (pair) => !pairsOf(wrapAad(RECORD)).some(([name]) => name === pair[0]),
    );
    expect(added).toEqual([
      ['activated', '1700000000001'],
      ['created', '1700000000000'],
      ['seq', '3'],
      ['size', '32'],
      ['state', 'active'],
    ]);
  });

  it('differs for each field that it binds, and not for the revision', () => {
    const changes: Partial<KeyRecord>[] = [
      { kid: new Uint8Array(16) },
      { name: 'customer' },
      { partition: '' },
      { level: 3 },
      { version: 1 },
      { algorithm: 'esdk-0478' },
      { purpose: 'message' },
      { size: 16 },
      { state: 'deactivated' },
      { owner: { ...RECORD.owner, tenant: 't' } },
      { owner: { ...RECORD.owner, service: 't' } },
      { owner: { ...RECORD.owner, node: 't' } },
      { dates: { ...RECORD.dates, created: 1 } },
      { dates: { ...RECORD.dates, activated: 0 } },
      { dates: { ...RECORD.dates, deactivated: 1 } },
      { dates: { ...RECORD.dates, destroyed: 1 } },
      { parent: { kind: 'key', kid: new Uint8Array(16) } },
      { keyContext: {} },
      { seq: 4n },
    ];
    const seen = new Set([Buffer.from(metaBytes(RECORD)).toString('hex')]);
    for (const change of changes) {
      seen.add(Buffer.from(metaBytes({ ...RECORD, ...change })).toString('hex'));
    }
    expect(seen.size).toBe(changes.length + 1);
    expect(metaBytes({ ...RECORD, revision: 7 })).toEqual(metaBytes(RECORD));
  });

  it('keeps a key-context name apart from a field of the same name', () => {
    const { keyContext: _, ...rest } = RECORD;
    expect(metaBytes({ ...rest, partition: '', keyContext: { partition: 'acme' } })).not.toEqual(
      metaBytes({ ...rest, partition: 'acme', keyContext: {} }),
    );
  });
});
