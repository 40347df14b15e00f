/** Row A14: what expands a thousandfold, and what the length of a ciphertext says (CVE-2024-28176, -28180, -29371; CRIME). */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { connect, type DekdClient } from '../../src/client/index.ts';
import { type ChildAgent, residentBytes, spawnTestAgent } from '../support/agent.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const MIB = 1024 * 1024;
const EXPANDED = Number(process.env.DEKD_FAULT_BOMB_MIB ?? 256) * MIB;
const ZEROS = Buffer.alloc(MIB);
const KEY = { key: 'large' };

let agent: ChildAgent;
let dekd: DekdClient;
afterEach(async () => {
  await dekd.close();
  agent.child.kill('SIGKILL');
  await agent.exited;
});

async function start(): Promise<void> {
  agent = await spawnTestAgent(join(temporaryFolder(), 's', 'agent.sock'));
  dekd = connect({ socket: agent.socket, timeoutMs: 300_000 });
}

/** A message of so many MiB, compressed. */
async function sealed(mebibytes: number, next: () => Buffer): Promise<Buffer> {
  const stream = dekd.encryptStream({ ...KEY, compression: 'zstd' });
  const parts: Buffer[] = [];
  const reading = (async () => {
    for await (const part of stream) {
      parts.push(part as Buffer);
    }
  })();
  for (let left = mebibytes; left > 0; left--) {
    if (!stream.write(next())) {
      await new Promise((resolve) => stream.once('drain', resolve));
    }
  }
  stream.end();
  await reading;
  return Buffer.concat(parts);
}

/** Reads what a message expands to, and counts it. */
async function expanded(message: Buffer): Promise<number> {
  const stream = dekd.decryptStream(KEY);
  stream.end(message);
  let length = 0;
  for await (const part of stream) {
    length += (part as Buffer).length;
  }
  return length;
}

/** The most resident memory of the agent while it opens a message. */
async function peakOf(message: Buffer, length: number): Promise<number> {
  let peak = 0;
  const timer = setInterval(() => {
    peak = Math.max(peak, residentBytes(agent.pid));
  }, 20);
  expect(await expanded(message)).toBe(length);
  clearInterval(timer);
  return peak;
}

describe('a message that expands a thousandfold', () => {
  it(`takes the agent at most 8 MiB of memory for ${EXPANDED / MIB} MiB that come out`, async () => {
    await start();
    // What an honest message of the same kind takes: threads for the work, and their memory.
    const honest = await sealed(64, () => randomBytes(MIB));
    const bomb = await sealed(EXPANDED / MIB, () => ZEROS);
    let usual = 0;
    for (let i = 0; i < 3; i++) {
      usual = Math.max(usual, await peakOf(honest, 64 * MIB));
    }
    const peak = await peakOf(bomb, EXPANDED);
    const over = peak - usual;
    console.log(
      `1:${Math.round(EXPANDED / bomb.length)}, ${EXPANDED / MIB} MiB out: agent ${(peak / MIB).toFixed(0)} MiB at most, ${(usual / MIB).toFixed(0)} MiB for 64 MiB that do not compress`,
    );
    expect(EXPANDED / bomb.length).toBeGreaterThan(1_000);
    expect(over).toBeLessThan(8 * MIB);
  });

  it('is refused by a client that says what it has room for, and by the limit of the agent', async () => {
    await start();
    const bomb = await sealed(64, () => ZEROS);
    await expect(dekd.decryptLarge(bomb, { ...KEY, maxOutput: 250_000 })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  });
});

describe('the length of a ciphertext', () => {
  const ALPHABET = 'abcdefghijklmnopqrstuvwxyz0123456789';
  const LENGTH = 16;

  /**
   * Guesses a secret from lengths alone, as CRIME does: what is encrypted holds the secret and, beside it, text of the
   * attacker. Each character is tried with several paddings, so that a bit less shows as a byte somewhere.
   */
  async function guess(secret: string, compression: 'gzip' | undefined): Promise<string> {
    const lengthOf = async (text: string): Promise<number> => {
      const body = Buffer.from(`Cookie: session=${secret}\r\nX-Note: ${text}\r\n`);
      const options = { ...KEY, ...(compression === undefined ? {} : { compression }) };
      return (await dekd.encryptLarge(body, options)).length;
    };
    let known = '';
    for (let at = 0; at < LENGTH; at++) {
      const scores: number[] = [];
      for (const character of ALPHABET) {
        const differences = await Promise.all(
          Array.from({ length: 12 }, async (_, pad) => {
            const padding = Array.from({ length: pad }, (__, i) =>
              String.fromCharCode(0x21 + ((i * 7 + pad) % 14)),
            ).join('');
            const [right, swapped] = await Promise.all([
              lengthOf(`${padding}session=${known}${character}{}`),
              lengthOf(`${padding}session=${known}{}${character}`),
            ]);
            return right - swapped;
          }),
        );
        scores.push(differences.reduce((sum, difference) => sum + difference, 0));
      }
      known += ALPHABET[scores.indexOf(Math.min(...scores))]!;
    }
    return known;
  }

  const sameCharacters = (a: string, b: string): number => [...a].filter((character, at) => character === b[at]).length;

  it('says nothing of a secret beside it by default, and much of it once compression is asked for', async () => {
    await start();
    const secret = Array.from(randomBytes(LENGTH), (byte) => ALPHABET[byte % ALPHABET.length]!).join('');
    const plain = sameCharacters(await guess(secret, undefined), secret);
    const compressed = sameCharacters(await guess(secret, 'gzip'), secret);
    console.log(`of ${LENGTH} characters: ${plain} by default, ${compressed} with gzip`);
    // One of 36 by chance each; a run of more than 5 right ones is less likely than one in 100,000.
    expect(plain).toBeLessThan(6);
    // The attack is real: this is why it is off, and why the documents say what to compress.
    expect(compressed).toBeGreaterThan(LENGTH / 2);
  });
});
