import { describe, expect, it } from 'vitest';
import { ERROR_CODES } from '../../src/errors.ts';
import { Counters } from '../../src/telemetry/counters.ts';
import { type Incident, Incidents } from '../../src/telemetry/incidents.ts';

const DENIAL: Incident = {
  code: 'PERMISSION_DENIED',
  reason: 'why',
  operation: 'encrypt',
  key: 'k',
  partition: '',
  caller: 'uid:1',
};

describe('incidents', () => {
  it('are found by their name until so many newer ones came', () => {
    const incidents = new Incidents(100);
    const names = Array.from({ length: 250 }, (_, index) => incidents.record({ ...DENIAL, reason: `${index}` }));
    expect(new Set(names).size).toBe(250);
    for (const [index, name] of names.entries()) {
      expect(incidents.lookup(name)?.reason, name).toBe(index < 150 ? undefined : `${index}`);
    }
    expect(incidents.count).toBe(250);
  });

  it('have short names that another run does not know', () => {
    const [one, two] = [new Incidents(), new Incidents()];
    const names = Array.from({ length: 40 }, () => one.record(DENIAL));
    for (const name of names) {
      expect(name).toMatch(/^[0-9a-hjkmnp-tv-z]{5}-[0-9a-hjkmnp-tv-z]{1,2}$/);
      two.record(DENIAL);
    }
    expect(two.lookup(names[0]!)).toBeUndefined();
    expect(one.lookup(` ${names[33]!.toUpperCase()}\n`)).toMatchObject({ ...DENIAL, id: names[33] });
  });

  it('answer nothing to names that are none', () => {
    const incidents = new Incidents();
    const prefix = incidents.record(DENIAL).split('-')[0]!;
    for (const name of [
      '',
      '-',
      prefix,
      `${prefix}-`,
      `${prefix}-u`,
      `${prefix}--0`,
      `${prefix}-00`,
      `${prefix}-1`,
      `${prefix}-0-0`,
      `${prefix}-${'z'.repeat(1000)}`,
    ]) {
      expect(incidents.lookup(name), name).toBeUndefined();
    }
  });

  it('keep bounded texts', () => {
    const incidents = new Incidents();
    const long = 'x'.repeat(1_000_000);
    const found = incidents.lookup(incidents.record({ ...DENIAL, reason: long, key: long, partition: long }))!;
    expect([found.reason.length, found.key.length, found.partition.length]).toEqual([2048, 256, 256]);
  });
});

describe('counters', () => {
  it('count by operation and outcome, and show what happened only', () => {
    const counters = new Counters();
    counters.count('encrypt', 'ok');
    counters.count('encrypt', 'ok', 1000);
    counters.count('encrypt', 'PERMISSION_DENIED');
    counters.count('decrypt', 'DECRYPTION_FAILED');
    counters.connectionsOpen++;
    expect(counters.snapshot()).toEqual({
      operations: { encrypt: { ok: 1001, PERMISSION_DENIED: 1 }, decrypt: { DECRYPTION_FAILED: 1 } },
      batches: 0,
      bytesSealed: 0,
      bytesOpened: 0,
      framesRefused: 0,
      connectionsOpen: 1,
      connectionsAccepted: 0,
      connectionsRefused: 0,
      engineFallbacks: 0,
    });
  });

  it('have a place of their own for every code', () => {
    const counters = new Counters();
    const codes = Object.keys(ERROR_CODES) as (keyof typeof ERROR_CODES)[];
    for (const [index, code] of codes.entries()) {
      counters.count('unknown', code, index + 1);
    }
    expect(counters.snapshot().operations.unknown).toEqual(
      Object.fromEntries(codes.map((code, index) => [code, index + 1])),
    );
  });
});
