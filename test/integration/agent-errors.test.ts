import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect } from '../../src/client/index.ts';
import type { Binding, DekdClient } from '../../src/client/types.ts';
import { DekdError } from '../../src/errors.ts';
import { startTestAgent, type TestAgent } from '../support/agent.ts';
import { RawClient } from '../support/raw-client.ts';

const PLAINTEXT = Buffer.alloc(64, 'p');
const OPTIONS: Binding = { key: 'customers', partition: 'acme', context: { field: 'pan', row: '7' } };

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

/** What a call was refused with. */
async function refusal(call: Promise<unknown>): Promise<DekdError> {
  try {
    await call;
  } catch (error) {
    expect(error).toBeInstanceOf(DekdError);
    return error as DekdError;
  }
  throw new Error('the call was not refused');
}

async function admin(command: object): Promise<void> {
  const client = await RawClient.greeted(agent.admin);
  const { error } = await client.ask({ admin: command });
  client.destroy();
  expect(error).toBeFalsy();
}

describe('a token with one bit flipped', () => {
  const codeOfBit = (bit: number): string => {
    const byte = bit >> 3;
    return byte === 0 ? 'MALFORMED' : byte === 1 ? 'UNSUPPORTED_VERSION' : 'DECRYPTION_FAILED';
  };

  it('is refused with the code of its position, for each of its bits, and shows nothing', async () => {
    const token = await dekd.encrypt(PLAINTEXT, OPTIONS);
    const bits = Array.from({ length: token.length * 8 }, (_, bit) => bit);
    const errors = await Promise.all(
      bits.map((bit) => {
        const flipped = token.slice();
        flipped[bit >> 3]! ^= 0x80 >> (bit & 7);
        return refusal(dekd.decrypt(flipped, OPTIONS));
      }),
    );
    expect(errors.map(({ code }) => code)).toEqual(bits.map(codeOfBit));
    expect(new Set(errors.slice(16).map(({ message }) => message))).toEqual(new Set(['decryption failed']));
    expect(Buffer.from(await dekd.decrypt(token, OPTIONS))).toEqual(PLAINTEXT);
  });

  it('is refused alike when it travels alone', async () => {
    const token = await dekd.encrypt(PLAINTEXT, OPTIONS);
    for (const bit of [0, 7, 8, 15, 16, 143, 144, 335, 336, 847, 848, 975]) {
      const flipped = token.slice();
      flipped[bit >> 3]! ^= 0x80 >> (bit & 7);
      expect((await refusal(dekd.decrypt(flipped, OPTIONS))).code).toBe(codeOfBit(bit));
    }
  });

  it('is refused in its string form for each character and each of its bits', async () => {
    const text = await dekd.encryptText(PLAINTEXT.toString(), OPTIONS);
    const flipped: string[] = [];
    for (let at = 0; at < text.length; at++) {
      for (let bit = 0; bit < 7; bit++) {
        const character = String.fromCharCode(text.charCodeAt(at) ^ (1 << bit));
        flipped.push(text.slice(0, at) + character + text.slice(at + 1));
      }
    }
    const errors = await Promise.all(flipped.map((one) => refusal(dekd.decryptText(one, OPTIONS))));
    for (const [i, { code }] of errors.entries()) {
      const at = Math.floor(i / 7);
      // Prefix and what is no base64url are MALFORMED wherever they are; format and suite lie in the first three digits.
      const isDigit = /^dk1\.[A-Za-z0-9_-]+$/.test(flipped[i]!);
      const allowed = !isDigit
        ? ['MALFORMED']
        : at < 5
          ? ['MALFORMED']
          : at < 7
            ? ['MALFORMED', 'UNSUPPORTED_VERSION', 'DECRYPTION_FAILED']
            : at === text.length - 1
              ? ['DECRYPTION_FAILED', 'MALFORMED']
              : ['DECRYPTION_FAILED'];
      expect(allowed, `${flipped[i]} at ${at}`).toContain(code);
    }
    expect(await dekd.decryptText(text, OPTIONS)).toBe(PLAINTEXT.toString());
  });
});

describe('a token cut short or made longer', () => {
  it('is MALFORMED below 58 bytes and DECRYPTION_FAILED from there on', async () => {
    const token = await dekd.encrypt(PLAINTEXT, OPTIONS);
    const lengths = Array.from({ length: token.length - 2 }, (_, i) => i + 2);
    const errors = await Promise.all(lengths.map((length) => refusal(dekd.decrypt(token.slice(0, length), OPTIONS))));
    expect(errors.map(({ code }) => code)).toEqual(
      lengths.map((length) => (length < 58 ? 'MALFORMED' : 'DECRYPTION_FAILED')),
    );
  });

  it('does not open with a byte more', async () => {
    const token = await dekd.encrypt(PLAINTEXT, OPTIONS);
    expect((await refusal(dekd.decrypt(Buffer.concat([token, Buffer.alloc(1)]), OPTIONS))).code).toBe(
      'DECRYPTION_FAILED',
    );
  });
});

describe('what a caller learns', () => {
  it('of an unknown kid is DECRYPTION_FAILED, as of a wrong tag, of another key and of another partition', async () => {
    const token = await dekd.encrypt(PLAINTEXT, OPTIONS);
    const unknown = token.slice();
    unknown.fill(0xaa, 2, 18);
    const tampered = token.slice();
    tampered[70]! ^= 1;
    await dekd.encrypt(PLAINTEXT, { ...OPTIONS, key: 'other' });
    const errors = await Promise.all([
      refusal(dekd.decrypt(unknown, OPTIONS)),
      refusal(dekd.decrypt(tampered, OPTIONS)),
      refusal(dekd.decrypt(token, { ...OPTIONS, key: 'other' })),
      refusal(dekd.decrypt(token, { ...OPTIONS, key: 'not-there-at-all' })),
      refusal(dekd.decrypt(token, { ...OPTIONS, partition: 'other' })),
      refusal(dekd.decrypt(token, { key: 'customers', context: OPTIONS.context })),
      refusal(dekd.decrypt(token, { anyKey: true, context: { field: 'pan' } })),
      refusal(dekd.decrypt(unknown, { anyKey: true, context: OPTIONS.context })),
      refusal(dekd.reencrypt(token, { ...OPTIONS, key: 'other' })),
    ]);
    for (const { code, message, retryable, incident } of errors) {
      expect({ code, message, retryable }).toEqual({
        code: 'DECRYPTION_FAILED',
        message: 'decryption failed',
        retryable: false,
      });
      expect(incident).toBeTruthy();
    }
  });

  it('with anyKey is the plaintext of a token whose key it does not name', async () => {
    const token = await dekd.encrypt(PLAINTEXT, OPTIONS);
    expect(Buffer.from(await dekd.decrypt(token, { anyKey: true, context: OPTIONS.context }))).toEqual(PLAINTEXT);
    const [many] = await dekd.decryptMany([token], { anyKey: true, context: OPTIONS.context });
    expect(many!.ok && Buffer.from(many!.value)).toEqual(PLAINTEXT);
  });

  it.each([
    ['disabled', { disable: {} }],
    ['destroyed', { destroy: {} }],
  ] as const)('of a %s key is KEY_DISABLED when it names it, DECRYPTION_FAILED otherwise', async (state, command) => {
    const options = { key: `to-be-${state}`, context: { a: 'b' } };
    const token = await dekd.encrypt(PLAINTEXT, options);
    const [verb] = Object.keys(command);
    await admin({ [verb!]: { name: options.key } });
    expect((await refusal(dekd.decrypt(token, options))).code).toBe('KEY_DISABLED');
    const [item] = await dekd.decryptMany([token], options);
    expect(item!.ok ? 'opened' : item!.error.code).toBe('KEY_DISABLED');
    expect((await refusal(dekd.decrypt(token, { anyKey: true, context: options.context }))).code).toBe(
      'DECRYPTION_FAILED',
    );
    const [any] = await dekd.decryptMany([token], { anyKey: true, context: options.context });
    expect(any!.ok ? 'opened' : any!.error.code).toBe('DECRYPTION_FAILED');
    expect((await refusal(dekd.decrypt(token, { ...options, key: 'other' }))).code).toBe('DECRYPTION_FAILED');
    expect((await refusal(dekd.encrypt(PLAINTEXT, options))).code).toBe('KEY_DISABLED');
    expect((await refusal(dekd.reencrypt(token, options))).code).toBe('KEY_DISABLED');
  });

  it('of a key that is enabled again is its plaintext', async () => {
    const options = { key: 'back-again' };
    const token = await dekd.encrypt(PLAINTEXT, options);
    await admin({ disable: { name: options.key } });
    await refusal(dekd.decrypt(token, options));
    await admin({ enable: { name: options.key } });
    expect(Buffer.from(await dekd.decrypt(token, options))).toEqual(PLAINTEXT);
  });

  it('of a compromised version is its plaintext, and a new version seals', async () => {
    const options = { key: 'leaked' };
    const token = await dekd.encrypt(PLAINTEXT, options);
    await admin({ rotate: { name: options.key } });
    await admin({ compromise: { name: options.key, version: 1 } });
    expect(Buffer.from(await dekd.decrypt(token, options))).toEqual(PLAINTEXT);
    const moved = await dekd.reencrypt(token, options);
    expect(Buffer.from(moved.subarray(2, 18))).not.toEqual(Buffer.from(token.subarray(2, 18)));
    expect(Buffer.from(await dekd.decrypt(moved, options))).toEqual(PLAINTEXT);
  });

  it('of a reserved name is PERMISSION_DENIED', async () => {
    expect((await refusal(dekd.encrypt(PLAINTEXT, { key: '.l3/default' }))).code).toBe('PERMISSION_DENIED');
    expect((await refusal(dekd.keyInfo('.l3/default'))).code).toBe('PERMISSION_DENIED');
  });
});

describe('a binding', () => {
  const bindings: Binding[] = [];
  for (const key of ['a', 'b']) {
    for (const partition of [undefined, 'p', 'q']) {
      for (const context of [
        { field: 'f', record: '1' },
        { field: 'f', record: '2' },
        { field: 'g', record: '1' },
        undefined,
      ]) {
        bindings.push({ key, partition, context });
      }
    }
  }

  it('opens its own tokens and no other: only the diagonal of key, partition, field and record', async () => {
    const tokens = await Promise.all(bindings.map((binding) => dekd.encrypt(PLAINTEXT, binding)));
    const opened = await Promise.all(
      bindings.map((binding) =>
        Promise.all(
          tokens.map((token) =>
            dekd.decrypt(token, binding).then(
              () => 1,
              (error: DekdError) => error.code,
            ),
          ),
        ),
      ),
    );
    expect(opened).toEqual(bindings.map((_, i) => bindings.map((_other, j) => (i === j ? 1 : 'DECRYPTION_FAILED'))));
  });

  it('opens only the diagonal in a batch too, with bindings by item', async () => {
    const sealed = await dekd.encryptMany(bindings.map((binding) => ({ data: PLAINTEXT, ...binding })));
    const tokens = sealed.map((result) => (result.ok ? result.value : new Uint8Array()));
    const pairs = bindings.flatMap((binding) =>
      tokens.map((data) => ({ data, ...binding, partition: binding.partition ?? '' })),
    );
    const opened = await dekd.decryptMany(pairs);
    expect(opened.map(({ ok }) => ok)).toEqual(
      pairs.map((_, i) => i % tokens.length === Math.floor(i / tokens.length)),
    );
  });

  it('does not depend on the order of its fields', async () => {
    const token = await dekd.encrypt(PLAINTEXT, { key: 'a', context: { x: '1', y: '2', é: '3' } });
    expect(await dekd.decrypt(token, { key: 'a', context: { é: '3', y: '2', x: '1' } })).toHaveLength(64);
  });

  it('tells {a: "bc"} from {ab: "c"}, and no context from an empty value', async () => {
    const token = await dekd.encrypt(PLAINTEXT, { key: 'a', context: { a: 'bc' } });
    expect((await refusal(dekd.decrypt(token, { key: 'a', context: { ab: 'c' } }))).code).toBe('DECRYPTION_FAILED');
    expect((await refusal(dekd.decrypt(token, { key: 'a', context: { a: 'bc', d: '' } }))).code).toBe(
      'DECRYPTION_FAILED',
    );
    const none = await dekd.encrypt(PLAINTEXT, { key: 'a' });
    expect(await dekd.decrypt(none, { key: 'a', context: {} })).toHaveLength(64);
  });

  it('has __proto__ and constructor as names like any other', async () => {
    const context = JSON.parse('{"__proto__": "1", "constructor": "2"}') as Record<string, string>;
    const token = await dekd.encrypt(PLAINTEXT, { key: 'a', context });
    expect(await dekd.decrypt(token, { key: 'a', context })).toHaveLength(64);
    expect((await refusal(dekd.decrypt(token, { key: 'a', context: { constructor: '2' } as never }))).code).toBe(
      'DECRYPTION_FAILED',
    );
    expect((await refusal(dekd.decrypt(token, { key: 'a' }))).code).toBe('DECRYPTION_FAILED');
    const named = await dekd.encrypt(PLAINTEXT, { key: '__proto__', partition: 'constructor' });
    expect(await dekd.decrypt(named, { key: '__proto__', partition: 'constructor' })).toHaveLength(64);
    expect(({} as Record<string, unknown>)['1']).toBeUndefined();
  });
});
