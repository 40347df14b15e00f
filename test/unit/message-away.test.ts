import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DATA_KEY_USE, type KeyHandle, type OpenedFrames } from '../../src/crypto/engine.ts';
import { NodeEngine } from '../../src/crypto/node.ts';
import { MessageOpening, openMessage } from '../../src/operations/message-opening.ts';
import { MessageSealing, type MessageSealingOptions, type SealFrames } from '../../src/operations/message-sealing.ts';
import { importKey } from '../support/engines.ts';

const FRAME = 16;
const NOTHING = new Uint8Array(0);
const SECRET = randomBytes(32);

/** Messages whose frames somebody else seals and opens, and who takes his time. */
describe('a message that a worker is at', () => {
  let engine: NodeEngine;
  let options: MessageSealingOptions;
  beforeEach(() => {
    engine = new NodeEngine();
    options = {
      engine,
      dataKey: dataKey(),
      dataKeys: [{ providerId: 'p', providerInfo: Buffer.from('i'), ciphertext: randomBytes(40) }],
      context: NOTHING,
      required: NOTHING,
      frameLength: FRAME,
    };
  });
  afterEach(() => engine.close());

  function dataKey(): KeyHandle {
    return importKey(engine, SECRET, DATA_KEY_USE);
  }

  /** Does it in some turns. */
  const later: SealFrames = async (message, plaintext, isFinal, length) => {
    await new Promise((resolve) => setImmediate(resolve));
    const output = new Uint8Array(length);
    engine.sealFrames(message, plaintext, isFinal, output);
    return output;
  };

  async function sealed(plaintext: Uint8Array, piece: number): Promise<Buffer> {
    const sealing = new MessageSealing(options);
    const parts: Uint8Array[] = [sealing.header];
    for (let at = 0; at < plaintext.length; at += piece) {
      parts.push(await sealing.updateBy(plaintext.subarray(at, at + piece), later));
    }
    parts.push(await sealing.endBy(later));
    return Buffer.concat(parts);
  }

  it.each([0, 1, FRAME, FRAME + 1, 7 * FRAME, 7 * FRAME + 3])('is the same message: %i bytes', async (length) => {
    const plaintext = randomBytes(length);
    for (const piece of [1, FRAME, 2 * FRAME + 5, 1000]) {
      const message = await sealed(plaintext, piece);
      const plain = { engine, dataKeyOf: async () => dataKey(), requiredOf: () => NOTHING };
      expect(Buffer.from(await openMessage(message, plain)).equals(plaintext)).toBe(true);
      const opening = new MessageOpening({
        ...plain,
        openFrames: async (...args) => {
          await new Promise((resolve) => setImmediate(resolve));
          return engine.openFrames(...args);
        },
      });
      const parts: Uint8Array[] = [];
      for (let at = 0; at < message.length; at += piece) {
        parts.push(await opening.push(message.subarray(at, at + piece)));
      }
      parts.push(opening.end());
      expect(Buffer.concat(parts).equals(plaintext)).toBe(true);
    }
    // The key that the options name is left, and no other.
    expect(engine.stats().used).toBe(1);
  });

  it('keeps its slot until the worker is done when it is closed meanwhile: nobody else gets it', async () => {
    const sealing = new MessageSealing(options);
    let done!: (frames: Uint8Array) => void;
    const away = sealing.updateBy(randomBytes(3 * FRAME), () => new Promise((resolve) => (done = resolve)));
    sealing.close();
    expect(engine.stats().used).toBe(2);
    done(new Uint8Array(96));
    await away;
    expect(engine.stats().used).toBe(1);
  });

  it('keeps its slot until the worker is done when reading it is given up, and what was read is wiped', async () => {
    const message = await sealed(randomBytes(5 * FRAME), 1000);
    let done!: (opened: OpenedFrames) => void;
    let output!: Uint8Array;
    const opening = new MessageOpening({
      engine,
      dataKeyOf: async () => dataKey(),
      requiredOf: () => NOTHING,
      openFrames: (_message, _body, room) => {
        output = room.fill(7);
        return new Promise((resolve) => (done = resolve));
      },
    });
    const reading = opening.push(message).catch((error: unknown) => error);
    await expect.poll(() => output).toBeDefined();
    opening.close();
    expect(engine.stats().used).toBe(2);
    done({ consumed: 10, produced: 10, final: false });
    expect(await reading).toMatchObject({ code: 'CANCELLED' });
    expect(engine.stats().used).toBe(1);
    expect(output.every((byte) => byte === 0)).toBe(true);
  });

  it('is lost with its worker, and its slot comes back', async () => {
    const sealing = new MessageSealing(options);
    const away = sealing.updateBy(randomBytes(3 * FRAME), () => Promise.reject(new Error('the worker died')));
    await expect(away).rejects.toThrow('the worker died');
    sealing.close();
    expect(engine.stats().used).toBe(1);
  });
});
