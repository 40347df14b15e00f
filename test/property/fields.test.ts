import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type DekdClient, type Fields } from '../../src/client/index.ts';

import { DekdError } from '../../src/errors.ts';
import { startTestAgent, type TestAgent } from '../support/agent.ts';
import {
  difference,
  fieldsOf,
  type JsonRow,
  jsonRow,
  objectOf,
  type Place,
  placesIn,
  valueAt,
  withValueAt,
} from '../support/field-values.ts';

/** 100,000 take some minutes. */
const RUNS = Number(process.env.DEKD_FIELD_RUNS ?? 2_000);
const TIMEOUT_MS = 60_000 + RUNS * 20;

interface Owned {
  readonly row: JsonRow;
  readonly key: string;
  readonly partition: string;
}

let agent: TestAgent;
let dekd: DekdClient;
beforeAll(async () => {
  agent = await startTestAgent();
  dekd = connect({ socket: agent.socket });
});
afterAll(async () => {
  await dekd.close();
  await agent.stop();
});

/** Fields of rows whose types nobody knows. */
type AnyFields = Fields<JsonRow, string>;

function define(fields: readonly string[], key = 'customers', partition = 'acme', bindPositions = true): AnyFields {
  const define = dekd.fields<ReturnType<typeof JSON.parse>>();
  return define({
    key,
    partition,
    fields,
    bindPositions,
    context: (row) => ({ row: row[''] }),
  }) as unknown as AnyFields;
}

/** The row under a name that no path can have. */
function identified(row: JsonRow, id: string): JsonRow {
  return objectOf([['', id], ...Object.entries(row).filter(([name]) => name !== '')]);
}

const sample = fc.record({
  row: jsonRow,
  wishes: fc.array(fc.nat(), { minLength: 1, maxLength: 6 }),
  bindPositions: fc.boolean(),
});

describe('random rows with random fields', () => {
  it(`are what they were when they come back, ${RUNS} of them`, { timeout: TIMEOUT_MS }, async () => {
    await fc.assert(
      fc.asyncProperty(sample, async ({ row: random, wishes, bindPositions }) => {
        const row = identified(random, 'r1');
        const places = placesIn(row);
        const paths = fieldsOf(row, places, wishes);
        fc.pre(paths.length > 0);
        const fields = define(paths, 'customers', 'acme', bindPositions);
        const before = structuredClone(row);
        const sealed = (await fields.encrypt(row)) as JsonRow;
        expect(difference(row, before)).toBeUndefined();
        for (const place of places) {
          if (paths.includes(place.path)) {
            expect(valueAt(sealed, place)).toMatch(/^dk1\.[A-Za-z0-9_-]{78,}$/);
          }
        }
        const again = await fields.encrypt(sealed);
        expect(difference(again, sealed)).toBeUndefined();
        expect(difference(await fields.decrypt(sealed as never), row)).toBeUndefined();
      }),
      { numRuns: RUNS },
    );
  });

  it(`do not open when any two of their values changed places, ${RUNS} times`, { timeout: TIMEOUT_MS }, async () => {
    let swapped = 0;
    await fc.assert(
      fc.asyncProperty(sample, fc.nat(), fc.nat(), fc.nat(3), async ({ row: random, wishes }, one, other, whose) => {
        const row = identified(random, 'r1');
        const all = placesIn(row);
        const paths = fieldsOf(row, all, wishes);
        fc.pre(paths.length > 0);
        const owners: Owned[] = [
          { row, key: 'customers', partition: 'acme' },
          { row: identified(random, 'r2'), key: 'customers', partition: 'acme' },
          { row, key: 'customers', partition: 'globex' },
          { row, key: 'orders', partition: 'acme' },
        ];
        const places = all.filter(({ path }) => paths.includes(path));
        const [here, there] = [places[one % places.length]!, places[other % places.length]!];
        const theirs = owners[whose]!;
        fc.pre(whose !== 0 || here !== there);
        const ours = define(paths);
        const others = define(paths, theirs.key, theirs.partition);
        const sealed = await ours.encrypt(row);
        const foreign = whose === 0 ? sealed : await others.encrypt(theirs.row);
        for (const [fields, moved, from, place] of [
          [ours, sealed, valueAt(foreign, there), here],
          [others, foreign, valueAt(sealed, here), there],
        ] as const) {
          const error = await fields.decrypt(withValueAt(moved, place as Place, from)).then(
            () => undefined,
            (reason: unknown) => reason,
          );
          expect(DekdError.is(error, 'DECRYPTION_FAILED')).toBe(true);
          swapped += 1;
        }
      }),
      { numRuns: RUNS },
    );
    expect(swapped).toBe(2 * RUNS);
  });
});
