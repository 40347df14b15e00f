import {
  createReadStream,
  createWriteStream,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect } from '../../src/client/index.ts';
import type { DekdClient } from '../../src/client/types.ts';
import { readMessageHeader } from '../../src/envelope/message-header.ts';
import { type ObjectStore, StorageTransformer } from '../../src/helpers/index.ts';
import { startTestAgent, type TestAgent } from '../support/agent.ts';
import { formsFound } from '../support/canary.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const MIB = 1024 * 1024;
const NOT_VALID = { name: 'DekdError', code: 'DECRYPTION_FAILED', message: 'the stored object is not valid' };

let agent: TestAgent;
let dekd: DekdClient;
beforeAll(async () => {
  agent = await startTestAgent({ workers: 1 });
  dekd = connect({ socket: agent.socket });
});
afterAll(async () => {
  await dekd.close();
  await agent.stop();
});

/** Objects as files of a folder: put is there whole or not at all, as it is in S3. */
class FolderStore implements ObjectStore {
  readonly folder = temporaryFolder();
  readonly read: [position: number, length: number][] = [];
  path(name: string): string {
    return join(this.folder, encodeURIComponent(name));
  }
  async put(name: string, body: AsyncIterable<Uint8Array>): Promise<void> {
    const part = `${this.path(name)}.part`;
    try {
      await pipeline(body, createWriteStream(part));
      writeFileSync(this.path(name), readFileSync(part));
    } finally {
      rmSync(part, { force: true });
    }
  }
  async get(name: string): Promise<AsyncIterable<Uint8Array>> {
    const file = await open(this.path(name));
    return file.createReadStream();
  }
  async source(name: string) {
    return {
      size: statSync(this.path(name)).size,
      read: async (position: number, length: number) => {
        this.read.push([position, length]);
        return readFileSync(this.path(name)).subarray(position, position + length);
      },
    };
  }
  bytes(name: string): Buffer {
    return readFileSync(this.path(name));
  }
}

async function whole(pieces: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const piece of pieces) {
    parts.push(piece);
  }
  return Buffer.concat(parts);
}

function lines(count: number): Buffer {
  return Buffer.from(Array.from({ length: count }, (_, at) => `row ${at} of canary-of-the-object\n`).join(''));
}

describe.each([undefined, 'zstd', 'gzip', true] as const)('an object stored with compression %s', (compression) => {
  const files = (store: ObjectStore) => new StorageTransformer(dekd, { key: 'files', store, compression });

  it.each([0, 1, 65_536, 3 * MIB + 7])(
    'of %i bytes comes back as it was, from arrays and from streams',
    async (size) => {
      const store = new FolderStore();
      const value = Buffer.alloc(size, lines(1000));
      await files(store).upload('array', [value]);
      expect((await whole(files(store).download('array'))).equals(value)).toBe(true);
      const input = join(store.folder, 'input');
      writeFileSync(input, value);
      await files(store).upload('stream', createReadStream(input));
      await pipeline(files(store).download('stream'), createWriteStream(input));
      expect(readFileSync(input).equals(value)).toBe(true);
    },
  );

  it('is compressed before it is encrypted, or not at all', async () => {
    const store = new FolderStore();
    const value = lines(50_000);
    await files(store).upload('a', [value]);
    const { length } = store.bytes('a');
    expect(length < value.length / 5).toBe(compression !== undefined);
    expect(length > value.length).toBe(compression === undefined);
    expect(formsFound(store.bytes('a'), 'canary-of-the-object')).toEqual([]);
  });

  it(
    compression === undefined
      ? 'gives parts of it, and reads no more than they need'
      : 'refuses parts of it, and says why',
    async () => {
      const store = new FolderStore();
      const value = lines(50_000);
      await files(store).upload('a', [value]);
      const part = whole(files(store).downloadRange('a', { start: 1_000_000, end: 1_000_100 }));
      if (compression === undefined) {
        expect((await part).equals(value.subarray(1_000_000, 1_000_100))).toBe(true);
        expect(store.read.reduce((sum, [, length]) => sum + length, 0)).toBeLessThan(4 * 65_536);
        expect(
          (await whole(files(store).downloadRange('a', { start: 1_700_000 }))).equals(value.subarray(1_700_000)),
        ).toBe(true);
      } else {
        await expect(part).rejects.toMatchObject({
          code: 'UNSUPPORTED',
          message: 'a compressed value has no parts: decrypt it whole',
        });
      }
    },
  );
});

describe('a stored object', () => {
  const options = (store: ObjectStore) => ({ key: 'files', store });

  it('opens under its own name, tenant, fields and key only', async () => {
    const store = new FolderStore();
    const files = new StorageTransformer<'owner'>(dekd, { ...options(store), bindTo: ['owner'] });
    const mine = { partition: 'acme', context: { owner: 'u1' } };
    await files.upload('a', [lines(10)], mine);
    await files.upload('x', [lines(10)], { ...mine, partition: 'other' });
    writeFileSync(store.path('b'), store.bytes('a'));
    expect(await whole(files.download('a', mine))).toEqual(lines(10));
    await expect(whole(files.download('b', mine))).rejects.toMatchObject(NOT_VALID);
    await expect(whole(files.download('a', { ...mine, partition: 'other' }))).rejects.toMatchObject(NOT_VALID);
    await expect(whole(files.download('a', { ...mine, context: { owner: 'u2' } }))).rejects.toMatchObject(NOT_VALID);
    await expect(
      whole(files.downloadRange('a', { start: 0, end: 1 }, { ...mine, context: { owner: 'u2' } })),
    ).rejects.toMatchObject(NOT_VALID);
    const other = new StorageTransformer<'owner'>(dekd, { key: 'other', store, bindTo: ['owner'] });
    await other.upload('y', [lines(1)], mine);
    await expect(whole(other.download('a', mine))).rejects.toMatchObject(NOT_VALID);
  });

  it('has its encrypted data key with it: neither opens without the other, nor with that of another', async () => {
    const store = new FolderStore();
    const files = new StorageTransformer(dekd, options(store));
    await files.upload('a', [lines(10)]);
    await files.upload('b', [lines(10)]);
    const [a, b] = [store.bytes('a'), store.bytes('b')];
    const header = readMessageHeader(a)!;
    const dataKey = Buffer.from(header.dataKeys[0]!.ciphertext);
    const moved = Buffer.from(a);
    Buffer.from(readMessageHeader(b)!.dataKeys[0]!.ciphertext).copy(moved, a.indexOf(dataKey));
    const spliced = Buffer.concat([b.subarray(0, readMessageHeader(b)!.length), a.subarray(header.length)]);
    const without = Buffer.concat([a.subarray(header.length)]);
    const alone = a.subarray(0, header.length);
    for (const wrong of [moved, spliced, without, alone, dataKey, Buffer.alloc(0), Buffer.from('no message at all')]) {
      writeFileSync(store.path('a'), wrong);
      await expect(whole(files.download('a'))).rejects.toMatchObject(NOT_VALID);
    }
    writeFileSync(store.path('a'), a);
    expect(await whole(files.download('a'))).toEqual(lines(10));
  });

  it('that was cut short, longer, or changed, ends in an error after what was right of it', async () => {
    const store = new FolderStore();
    const files = new StorageTransformer(dekd, { ...options(store), frameLength: 1000 });
    const value = lines(200);
    await files.upload('a', [value]);
    const sealed = store.bytes('a');
    const changed = Buffer.from(sealed);
    changed[sealed.length - 500]! ^= 1;
    for (const wrong of [
      sealed.subarray(0, -1),
      sealed.subarray(0, 3000),
      Buffer.concat([sealed, Buffer.of(0)]),
      changed,
    ]) {
      writeFileSync(store.path('a'), wrong);
      const got: Uint8Array[] = [];
      const reading = async (): Promise<void> => {
        for await (const piece of files.download('a')) {
          got.push(piece);
        }
      };
      await expect(reading()).rejects.toMatchObject(NOT_VALID);
      const given = Buffer.concat(got);
      expect(given.equals(value.subarray(0, given.length))).toBe(true);
    }
  });

  it('is not there when its source fails, which is what the upload fails with', async () => {
    const store = new FolderStore();
    const files = new StorageTransformer(dekd, options(store));
    const broken = new Error('the client hung up');
    async function* source(): AsyncGenerator<Uint8Array> {
      yield lines(10_000);
      throw broken;
    }
    await expect(files.upload('a', source())).rejects.toBe(broken);
    await expect(files.upload('b', Readable.from(source()))).rejects.toBe(broken);
    expect(readdirSync(store.folder)).toEqual([]);
  });

  it('fails with what its store does: at once, in the middle, and when it resolves too soon', async () => {
    const full = new Error('no space in the bucket');
    let closed = 0;
    async function* endless(): AsyncGenerator<Uint8Array> {
      try {
        for (;;) {
          yield lines(1000);
        }
      } finally {
        closed += 1;
      }
    }
    const none = async () => {
      throw full;
    };
    const atOnce: ObjectStore = { put: none, get: none };
    const thrown: ObjectStore = {
      put: () => {
        throw full;
      },
      get: none,
    };
    const later: ObjectStore = {
      put: async (_name, body) => {
        for await (const piece of body) {
          if (piece.length > 0) {
            throw full;
          }
        }
      },
      get: none,
    };
    const slow: ObjectStore = {
      put: (name, body) =>
        later.put(name, body).catch(async (error: unknown) => {
          await new Promise((resolve) => setTimeout(resolve, 50));
          throw error;
        }),
      get: none,
    };
    for (const store of [atOnce, thrown, later, slow]) {
      await expect(new StorageTransformer(dekd, options(store)).upload('a', endless())).rejects.toBe(full);
    }
    const early: ObjectStore = { put: async () => 'done', get: none };
    await expect(new StorageTransformer(dekd, options(early)).upload('a', endless())).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
    expect(closed).toBe(5);
    await expect(whole(new StorageTransformer(dekd, options(early)).download('a'))).rejects.toBe(full);
    await expect(
      whole(new StorageTransformer(dekd, options(early)).downloadRange('a', { start: 0 })),
    ).rejects.toMatchObject({
      code: 'UNSUPPORTED',
    });
  });

  it('passes on a failure in the middle of a download, and stops its store when the reader stops', async () => {
    const store = new FolderStore();
    await new StorageTransformer(dekd, options(store)).upload('a', [lines(100_000)]);
    const lost = new Error('connection reset');
    let stopped = 0;
    const flaky: ObjectStore = {
      put: async () => undefined,
      get: async () =>
        (async function* () {
          try {
            const bytes = store.bytes('a');
            for (let at = 0; at < bytes.length; at += 65_536) {
              yield bytes.subarray(at, at + 65_536);
              if (at > 1_000_000) {
                throw lost;
              }
            }
          } finally {
            stopped += 1;
          }
        })(),
    };
    const files = new StorageTransformer(dekd, options(flaky));
    await expect(whole(files.download('a'))).rejects.toBe(lost);
    for await (const piece of files.download('a')) {
      expect(piece.length).toBeGreaterThan(0);
      break;
    }
    expect(stopped).toBe(2);
  });

  it('is given up on signal, which is told to source and store', async () => {
    const controller = new AbortController();
    const reason = new Error('the user left');
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (let at = 0; ; at++) {
        if (at === 20) {
          controller.abort(reason);
        }
        yield lines(1000);
      }
    }
    const store = new FolderStore();
    const files = new StorageTransformer(dekd, options(store));
    await expect(files.upload('a', endless(), { signal: controller.signal })).rejects.toBe(reason);
    expect(readdirSync(store.folder)).toEqual([]);
  });

  it('is AGENT_UNAVAILABLE where there is no agent', async () => {
    const nobody = connect({ socket: '/nowhere/agent.sock', timeoutMs: 50 });
    const store = new FolderStore();
    await new StorageTransformer(dekd, options(store)).upload('a', [lines(1)]);
    const files = new StorageTransformer(nobody, options(store));
    await expect(files.upload('b', [lines(1)])).rejects.toMatchObject({ code: 'AGENT_UNAVAILABLE' });
    await expect(whole(files.download('a'))).rejects.toMatchObject({ code: 'AGENT_UNAVAILABLE' });
    expect(readdirSync(store.folder)).toEqual(['a']);
    await nobody.close();
  });
});
