import { createDecipheriv } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { legacyEnvelopeOf, readLegacyEnvelope } from '../../src/envelope/legacy.ts';
import { DekdError } from '../../src/errors.ts';
import { legacyVectors as vectors } from '../support/legacy-vectors.ts';

/** What an application does, which had the keys itself. */
function openedByNode({ kid, iv, ct }: { kid: string; iv: string; ct: string }): Buffer {
  const sealed = Buffer.from(ct, 'base64');
  const decipher = createDecipheriv(
    'aes-256-gcm',
    Buffer.from(vectors.keys[kid]!, 'base64'),
    Buffer.from(iv, 'base64'),
  );
  decipher.setAuthTag(sealed.subarray(-16));
  return Buffer.concat([decipher.update(sealed.subarray(0, -16)), decipher.final()]);
}

function refusalOf(text: string): string {
  try {
    readLegacyEnvelope(Buffer.from(text));
    return 'none';
  } catch (error) {
    return DekdError.is(error) ? `${error.code} ${error.message}` : String(error);
  }
}

describe('envelopes of applications from before', () => {
  it.each(vectors.opens)('are read as node:crypto wrote them: $name', ({ envelope, plaintext }) => {
    expect(openedByNode(envelope)).toEqual(Buffer.from(plaintext, 'base64'));
    const read = readLegacyEnvelope(Buffer.from(JSON.stringify(envelope)));
    expect(read.kid).toBe(envelope.kid);
    expect(Buffer.from(read.iv).toString('base64')).toBe(envelope.iv);
    expect(Buffer.from(read.sealed).toString('base64')).toBe(envelope.ct);
  });

  it('are read whatever the order of their keys, and the white space between them', () => {
    const { __enc, kid, iv, ct } = vectors.opens[0]!.envelope;
    for (const text of [JSON.stringify({ ct, iv, kid, __enc }), JSON.stringify({ kid, __enc, ct, iv }, null, 2)]) {
      expect(readLegacyEnvelope(Buffer.from(text)).kid).toBe(kid);
    }
  });

  it.each(Object.entries(vectors.fails))('have the shape of one with %s', (_, text) => {
    expect(refusalOf(text)).toBe('none');
  });

  it.each(Object.entries(vectors.malformed))('are none with %s', (_, text) => {
    expect(refusalOf(text)).toMatch(/^MALFORMED not a legacy envelope: it/);
  });

  it('are none where the bytes are no UTF-8, or the keys are those of a prototype', () => {
    expect(refusalOf('\ufeff{}')).toMatch(/^MALFORMED/);
    expect(() => readLegacyEnvelope(Uint8Array.of(0x22, 0xff, 0x22))).toThrow('it is not JSON');
    const inherited = Object.create(vectors.opens[0]!.envelope) as unknown;
    expect(() => legacyEnvelopeOf(inherited)).toThrow('exactly');
  });

  it.each(['{},', '[],', '0,', '[', '{"a":'])('are never parsed when they are megabytes of %s', (piece) => {
    const { envelope } = vectors.opens[0]!;
    const bytes = Buffer.from(`{"__enc":[${piece.repeat(400_000)}0]}`);
    const before = process.memoryUsage().heapUsed;
    expect(() => readLegacyEnvelope(bytes)).toThrow('more members or values in it');
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(2 * 1024 * 1024);
    const kid = piece[0]!.repeat(64);
    expect(readLegacyEnvelope(Buffer.from(JSON.stringify({ ...envelope, kid }))).kid).toBe(kid);
  });

  it('say nothing of what they hold when they are refused', () => {
    for (const text of Object.values(vectors.malformed)) {
      const { ct } = (text.startsWith('{') && !text.endsWith(',') ? JSON.parse(text) : {}) as { ct?: string };
      if (ct !== undefined && ct !== '') {
        expect(refusalOf(text)).not.toContain(ct.slice(0, 8));
      }
    }
  });
});
