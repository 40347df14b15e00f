import { createHmac } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Engine, type KeyHandle, MAC_LENGTH } from '../../src/crypto/engine.ts';
import { encodeContext } from '../../src/envelope/context.ts';
import { type MacLabel, macScope } from '../../src/envelope/mac-scope.ts';
import { ENGINE_NAMES, engineUnderTest, importKey } from '../support/engines.ts';

const KEY = Uint8Array.from({ length: 32 }, (_, i) => i);
const NOTHING = new Uint8Array(0);

/** What docs/formats.md gives as examples, under the key 00 01 … 1f. Frozen: stored MACs and indexes depend on them. */
const GOLDEN = [
  {
    label: 'dekd/v1/hmac',
    names: ['customers', 'acme'],
    context: encodeContext({ row: '4711' }),
    data: 'hello',
    mac: 'a1cb67b9553b8b9158620eecd9a160fa048f1a0c10ccdb06cfa5707ad74ecce4',
  },
  {
    label: 'dekd/v1/hmac',
    names: ['customers', ''],
    context: NOTHING,
    data: '',
    mac: '3def476895d834a6efc7b5dafe57eb7f1b516e6ed3339f170691718b9b6163c4',
  },
  {
    label: 'dekd/v1/index',
    names: ['customers', 'acme', 'users', 'email'],
    context: NOTHING,
    data: 'ada@example.org',
    mac: 'd68804e8eb4b2306ac60775ec0a27be1ad431d2d1601fca2c00bfe1432b8935d',
  },
  {
    label: 'dekd/v1/fingerprint',
    names: ['customers', 'acme'],
    context: NOTHING,
    data: 'hello',
    mac: 'ea1f28ce66d9086e5c381fc25382dc86ba5a770beccafaf616cec0d69d3c3b42',
  },
] as const;

function macOf(
  engine: Engine,
  key: KeyHandle,
  label: MacLabel,
  names: readonly string[],
  context: Uint8Array,
  data: Uint8Array,
): string {
  const out = new Uint8Array(MAC_LENGTH);
  const input = Buffer.concat([context, data]);
  const row = Uint32Array.of(key, 0, context.length, context.length, data.length, 0, 9, 0);
  engine.macMany(row, 1, macScope(label, names), input, out);
  return Buffer.from(out).toString('hex');
}

/** Written from docs/formats.md alone. */
function reference(label: string, names: readonly string[], context: Uint8Array, data: Uint8Array): string {
  const sized = (bytes: Uint8Array, width: 2 | 4): Buffer => {
    const length = Buffer.alloc(width);
    length.writeUIntBE(bytes.length, 0, width);
    return Buffer.concat([length, bytes]);
  };
  const parts = [
    Buffer.from(label),
    ...names.map((name) => sized(Buffer.from(name), 2)),
    sized(context, 4),
    sized(data, 4),
  ];
  return createHmac('sha256', KEY).update(Buffer.concat(parts)).digest('hex');
}

describe.each(ENGINE_NAMES)('MACs by the %s engine', (name) => {
  it('of the examples of docs/formats.md are those that it gives', async ({ skip }) => {
    const subject = await engineUnderTest(name);
    if (subject.missing !== undefined) {
      return skip(subject.missing);
    }
    const engine = subject.create();
    const key = importKey(engine, KEY, { algorithm: 'hmac-sha-256', purpose: 'mac' });
    for (const { label, names, context, data, mac } of GOLDEN) {
      expect(macOf(engine, key, label, names, context, Buffer.from(data))).toBe(mac);
      expect(reference(label, names, context, Buffer.from(data))).toBe(mac);
    }
    engine.close();
  });

  it('differ wherever purpose, names, context or value differ, whichever border moves', async ({ skip }) => {
    const subject = await engineUnderTest(name);
    if (subject.missing !== undefined) {
      return skip(subject.missing);
    }
    const engine = subject.create();
    const key = importKey(engine, KEY, { algorithm: 'hmac-sha-256', purpose: 'mac' });
    const text = fc.string({ unit: fc.constantFrom('a', '\0', '\x01', '\x02'), maxLength: 3 });
    const input = fc.record({
      label: fc.constantFrom<MacLabel>('dekd/v1/hmac', 'dekd/v1/index', 'dekd/v1/fingerprint'),
      names: fc.array(text, { minLength: 2, maxLength: 4 }),
      context: text,
      data: text,
    });
    fc.assert(
      fc.property(input, input, (one, other) => {
        const macs = [one, other].map(({ label, names, context, data }) =>
          macOf(engine, key, label, names, Buffer.from(context), Buffer.from(data)),
        );
        expect(macs[0] === macs[1]).toBe(JSON.stringify(one) === JSON.stringify(other));
        expect(macs[0]).toBe(reference(one.label, one.names, Buffer.from(one.context), Buffer.from(one.data)));
      }),
      { numRuns: 500 },
    );
    engine.close();
  });
});
