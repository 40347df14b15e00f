import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ERROR_CODES, errorCodeOf } from '../../src/errors.ts';
import { messages } from '../../src/protocol/messages.ts';
import { Writer } from '../../src/protocol/runtime.ts';
import { startTestAgent, type TestAgent } from '../support/agent.ts';
import { contextOf, frameOf, HELLO, RawClient, requestFrame } from '../support/raw-client.ts';

const DATA = Buffer.from('plaintext');

describe('the wire', () => {
  let agent: TestAgent;
  beforeAll(async () => {
    agent = await startTestAgent();
  });
  afterAll(() => agent.stop());

  async function withClient<T>(run: (client: RawClient) => Promise<T>): Promise<T> {
    const client = await RawClient.greeted(agent.socket);
    try {
      return await run(client);
    } finally {
      client.destroy();
    }
  }

  describe('hello', () => {
    it('answers with version, limits, engine and lock level', async () => {
      const client = await RawClient.connect(agent.socket);
      const { id, hello } = await client.ask({ id: 9, hello: HELLO });
      expect(id).toBe(9);
      expect(hello).toMatchObject({ version: 1, maxPayload: 1 << 20, maxFrame: (1 << 20) + 65_536, maxInFlight: 1024 });
      expect(hello!.engine).toMatch(/^(native|node)$/);
      expect(hello!.lockLevel).toMatch(/^(secret|locked|heap)$/);
      client.destroy();
    });

    it('is the first request, or the connection is closed with PROTOCOL_ERROR', async () => {
      const client = await RawClient.connect(agent.socket);
      client.send({ id: 1, ping: {} });
      const { error } = await client.reply(0);
      expect(errorCodeOf(error!.code!)).toBe('PROTOCOL_ERROR');
      expect(error!.message).toMatch(/first request must be hello/);
      await client.closed;
    });

    it.each([
      [2, 3],
      [0, 0],
      [4_000_000_000, 4_294_967_295],
    ])('refuses a client that speaks %i to %i, naming both ranges', async (minVersion, maxVersion) => {
      const client = await RawClient.connect(agent.socket);
      client.send({ id: 1, hello: { minVersion, maxVersion } });
      const { error } = await client.reply(0);
      expect(errorCodeOf(error!.code!)).toBe('UNSUPPORTED_VERSION');
      expect(error!.message).toBe(`client speaks protocol ${minVersion} to ${maxVersion}, agent 1 to 1`);
      await client.closed;
    });

    it('chooses its own newest version for a client that speaks newer ones too', async () => {
      const client = await RawClient.connect(agent.socket);
      const { hello } = await client.ask({ hello: { minVersion: 1, maxVersion: 77 } });
      expect(hello!.version).toBe(1);
      client.destroy();
    });

    it('may be followed by requests without waiting for its answer', async () => {
      const client = await RawClient.connect(agent.socket);
      client.write(Buffer.concat([requestFrame({ id: 1, hello: HELLO }), requestFrame({ id: 2, ping: {} })]));
      expect((await client.reply(1)).hello).toBeTruthy();
      expect((await client.reply(2)).document).toBeTruthy();
      client.destroy();
    });

    it('said twice is INVALID_ARGUMENT, and the connection goes on', () =>
      withClient(async (client) => {
        const { error } = await client.ask({ hello: HELLO });
        expect(errorCodeOf(error!.code!)).toBe('INVALID_ARGUMENT');
        expect((await client.ask({ ping: {} })).document).toBeTruthy();
      }));
  });

  describe('ids', () => {
    it.each([1, 127, 128, 16_384, 2_097_152, 268_435_456, 4_294_967_295])('answers under the id %i', (id) =>
      withClient(async (client) => {
        expect((await client.ask({ id, encrypt: { key: 'k', data: DATA } })).value).toHaveLength(DATA.length + 58);
        expect((await client.ask({ id, ping: {} })).document).toBeTruthy();
      }),
    );

    it('refuses 0 and closes', () =>
      withClient(async (client) => {
        client.send({ id: 0, ping: {} });
        expect(errorCodeOf((await client.reply(0)).error!.code!)).toBe('PROTOCOL_ERROR');
        await client.closed;
      }));

    it('refuses one that is in flight and closes', () =>
      withClient(async (client) => {
        const frame = requestFrame({ id: 5, encrypt: { key: 'never-seen-before-dup', data: DATA } });
        client.write(Buffer.concat([frame, frame]));
        const { error } = await client.reply(0);
        expect(errorCodeOf(error!.code!)).toBe('PROTOCOL_ERROR');
        expect(error!.message).toMatch(/id 5 is already in flight/);
        await client.closed;
      }));
  });

  describe('order', () => {
    it('answers a warm key before one that has to be made, asked for earlier', () =>
      withClient(async (client) => {
        await client.ask({ encrypt: { key: 'warm', data: DATA } });
        client.write(
          Buffer.concat([
            requestFrame({ id: 100, encrypt: { key: 'cold-order', data: DATA } }),
            requestFrame({ id: 101, encrypt: { key: 'warm', data: DATA } }),
          ]),
        );
        await client.count(2);
        expect(client.replies.map(({ id }) => id)).toEqual([101, 100]);
        expect(client.replies.every(({ value }) => value!.length === DATA.length + 58)).toBe(true);
      }));

    it('answers 2,000 requests sent at once, each under its own id', () =>
      withClient(async (client) => {
        const frames = Array.from({ length: 2_000 }, (_, i) =>
          requestFrame({ id: i + 1, encrypt: { key: 'warm', data: Buffer.from(`value ${i}`) } }),
        );
        client.write(Buffer.concat(frames));
        await client.count(2_000);
        const tokens = [...client.replies.splice(0)].sort((a, b) => a.id - b.id);
        client.write(
          Buffer.concat(tokens.map(({ id, value }) => requestFrame({ id, decrypt: { key: 'warm', data: value! } }))),
        );
        await client.count(2_000);
        for (const { id, value } of client.replies) {
          expect(Buffer.from(value!).toString()).toBe(`value ${id - 1}`);
        }
        expect(new Set(client.replies.map(({ id }) => id)).size).toBe(2_000);
      }));
  });

  describe('cancel and deadline', () => {
    it('answers a cancelled request with CANCELLED, and nothing else', () =>
      withClient(async (client) => {
        client.write(
          Buffer.concat([
            requestFrame({ id: 7, encrypt: { key: 'cold-cancel', data: DATA } }),
            requestFrame({ id: 0, cancel: { id: 7 } }),
          ]),
        );
        expect(errorCodeOf((await client.reply(7)).error!.code!)).toBe('CANCELLED');
        await client.ask({ id: 8, encrypt: { key: 'cold-cancel', data: DATA } });
        await client.ask({ id: 9, ping: {} });
        expect(client.replies).toEqual([]);
      }));

    it('ignores a cancel of what is not in flight', () =>
      withClient(async (client) => {
        client.send({ id: 0, cancel: { id: 4_711 } });
        expect((await client.ask({ ping: {} })).document).toBeTruthy();
      }));

    it('takes the id of a cancelled request again once its work has ended', () =>
      withClient(async (client) => {
        client.write(
          Buffer.concat([
            requestFrame({ id: 7, encrypt: { key: 'cold-again', data: DATA } }),
            requestFrame({ id: 0, cancel: { id: 7 } }),
            requestFrame({ id: 7, encrypt: { key: 'warm', data: DATA } }),
          ]),
        );
        expect(errorCodeOf((await client.reply(7)).error!.code!)).toBe('CANCELLED');
        expect(errorCodeOf((await client.reply(7)).error!.code!)).toBe('RESOURCE_EXHAUSTED');
        await client.ask({ id: 8, encrypt: { key: 'cold-again', data: DATA } });
        expect((await client.ask({ id: 7, encrypt: { key: 'warm', data: DATA } })).value).toBeTruthy();
      }));

    it('does not take the longest time-out there is for a passed one', () =>
      withClient(async (client) => {
        const { value } = await client.ask({
          timeoutMs: 4_294_967_295,
          encrypt: { key: 'cold-patient', data: DATA },
        });
        expect(value).toHaveLength(DATA.length + 58);
      }));
  });

  describe('what it does not know', () => {
    it('is UNSUPPORTED when it is an operation, and the connection goes on', () =>
      withClient(async (client) => {
        client.write(
          frameOf(
            Writer.create()
              .uint32(8)
              .uint32(3)
              .uint32((99 << 3) | 2)
              .bytes(new Uint8Array(4))
              .finish(),
          ),
        );
        const { error } = await client.reply(3);
        expect(errorCodeOf(error!.code!)).toBe('UNSUPPORTED');
        expect(error!.message).toMatch(/operation 99/);
        expect((await client.ask({ ping: {} })).document).toBeTruthy();
      }));

    it('is INVALID_ARGUMENT when there is no operation at all', () =>
      withClient(async (client) => {
        client.write(frameOf(Writer.create().uint32(8).uint32(3).finish()));
        expect(errorCodeOf((await client.reply(3)).error!.code!)).toBe('INVALID_ARGUMENT');
      }));

    it('is ignored when it is a field beside or inside a known operation', () =>
      withClient(async (client) => {
        const encrypt = Writer.create()
          .uint32((90 << 3) | 0)
          .uint32(5)
          .uint32(0x0a)
          .string('warm')
          .uint32((91 << 3) | 2)
          .bytes(Buffer.from('later'))
          .uint32((92 << 3) | 1)
          .fixed64(1)
          .uint32((93 << 3) | 5)
          .fixed32(1)
          .uint32(0x7a)
          .bytes(DATA)
          .finish();
        const request = Writer.create()
          .uint32((1_020 << 3) | 2)
          .bytes(Buffer.from('before'))
          .uint32(8)
          .uint32(3)
          .uint32((8 << 3) | 2)
          .bytes(encrypt)
          .uint32((1_021 << 3) | 2)
          .bytes(Buffer.from('after'))
          .uint32((1_022 << 3) | 0)
          .uint32(1)
          .finish();
        client.write(frameOf(request));
        expect((await client.reply(3)).value).toHaveLength(DATA.length + 58);
      }));

    it('is no matter of order: payload first, key last, id after the operation', () =>
      withClient(async (client) => {
        const context = contextOf({ field: 'pan' });
        const binding = (data: Uint8Array): Uint8Array =>
          Writer.create()
            .uint32(0x7a)
            .bytes(data)
            .uint32(0x1a)
            .bytes(context)
            .uint32(0x12)
            .string('acme')
            .uint32(0x0a)
            .string('warm')
            .finish();
        const request = (operation: number, id: number, data: Uint8Array): Buffer =>
          frameOf(
            Writer.create()
              .uint32((operation << 3) | 2)
              .bytes(binding(data))
              .uint32(0x10)
              .uint32(1_000)
              .uint32(8)
              .uint32(id)
              .finish(),
          );
        client.write(request(8, 1, DATA));
        const { value } = await client.reply(1);
        client.write(request(9, 2, value!));
        expect(Buffer.from((await client.reply(2)).value!)).toEqual(DATA);
        const usual = await client.ask({ decrypt: { key: 'warm', partition: 'acme', context, data: value! } });
        expect(Buffer.from(usual.value!)).toEqual(DATA);
      }));

    it('is no matter of order in a batch: items first, what they lack after them', () =>
      withClient(async (client) => {
        const context = contextOf({ field: 'pan' });
        const item = (data: Uint8Array): Uint8Array => Writer.create().uint32(0x7a).bytes(data).finish();
        const many = Writer.create()
          .uint32(0x7a)
          .bytes(item(Buffer.from('one')))
          .uint32(0x7a)
          .bytes(Writer.create().uint32(0x7a).bytes(Buffer.from('two')).uint32(0x0a).string('other').finish())
          .uint32(0x1a)
          .bytes(context)
          .uint32(0x0a)
          .string('warm')
          .finish();
        client.write(
          frameOf(
            Writer.create()
              .uint32((11 << 3) | 2)
              .bytes(many)
              .uint32(8)
              .uint32(6)
              .finish(),
          ),
        );
        const { many: reply } = await client.reply(6);
        expect(reply!.errors).toEqual([]);
        const back = await client.ask({
          decryptMany: {
            key: 'warm',
            context,
            items: [{ data: reply!.values[0]! }, { key: 'other', data: reply!.values[1]! }],
          },
        });
        expect(back.many!.values.map((value) => Buffer.from(value).toString())).toEqual(['one', 'two']);
      }));

    it('takes the last of several values of one field, as protobuf does', () =>
      withClient(async (client) => {
        const encrypt = Writer.create()
          .uint32(0x0a)
          .string('not-this')
          .uint32(0x0a)
          .string('warm')
          .uint32(0x7a)
          .bytes(DATA)
          .finish();
        client.write(frameOf(Writer.create().uint32(8).uint32(2).uint32(66).bytes(encrypt).finish()));
        const { value } = await client.reply(2);
        expect((await client.ask({ decrypt: { key: 'warm', data: value! } })).value).toBeTruthy();
      }));
  });

  it('refuses names that are no UTF-8: two tenants must not become one', () =>
    withClient(async (client) => {
      const encrypt = Writer.create()
        .uint32(0x0a)
        .string('warm')
        .uint32(0x12)
        .bytes(Buffer.from([0x61, 0xe9]))
        .finish();
      client.write(frameOf(Writer.create().uint32(8).uint32(2).uint32(66).bytes(encrypt).finish()));
      expect(errorCodeOf((await client.reply(0)).error!.code)).toBe('PROTOCOL_ERROR');
    }));

  describe('limits', () => {
    it.each([2 ** 32 - 1, 2 ** 31, (1 << 20) + 65_537])(
      'closes on the prefix of a frame that claims %i bytes',
      (length) =>
        withClient(async (client) => {
          const prefix = Buffer.alloc(4);
          prefix.writeUInt32BE(length);
          client.write(prefix);
          const { error } = await client.reply(0);
          expect(errorCodeOf(error!.code!)).toBe('PROTOCOL_ERROR');
          expect(error!.message).toBe(`frame of ${length} bytes is over the limit of ${(1 << 20) + 65_536}`);
          await client.closed;
        }),
    );

    it('says so once, however much follows a broken frame', () =>
      withClient(async (client) => {
        client.write(Buffer.alloc(4, 0xff));
        client.write(Buffer.alloc(256 * 1024, 0xff));
        await client.closed;
        expect(client.replies).toHaveLength(1);
      }));

    it('encrypts a value at the limit, and decrypts what came of it', () =>
      withClient(async (client) => {
        const data = Buffer.alloc(1 << 20, 'x');
        const { value } = await client.ask({ encrypt: { key: 'warm', data } });
        expect(value).toHaveLength(data.length + 58);
        const back = await client.ask({ decrypt: { key: 'warm', data: value! } });
        expect(Buffer.from(back.value!).equals(data)).toBe(true);
        const again = await client.ask({ reencrypt: { key: 'warm', data: value! } });
        expect(again.value).toHaveLength(data.length + 58);
      }));

    it('encrypts a value at the limit as an item with a context of its own', () =>
      withClient(async (client) => {
        const item = { data: Buffer.alloc(1 << 20, 'x'), context: contextOf({ row: 'x'.repeat(1_000) }) };
        const { many } = await client.ask({ encryptMany: { key: 'warm', items: [item] } });
        expect(many!.values[0]).toHaveLength((1 << 20) + 58);
      }));

    it('refuses one byte more with both numbers, and the connection goes on', () =>
      withClient(async (client) => {
        const { error } = await client.ask({ encrypt: { key: 'warm', data: Buffer.alloc((1 << 20) + 1) } });
        expect(errorCodeOf(error!.code!)).toBe('INVALID_ARGUMENT');
        expect(error!.message).toMatch(/1048577 bytes .* 1048576/);
        const token = await client.ask({ decrypt: { key: 'warm', data: Buffer.alloc((1 << 20) + 59, 0xc1) } });
        expect(token.error!.message).toMatch(/1048577 bytes .* 1048576/);
        expect((await client.ask({ ping: {} })).document).toBeTruthy();
      }));

    it('refuses a batch over the limit as a whole, with its count and both numbers', () =>
      withClient(async (client) => {
        const items = Array.from({ length: 3 }, () => ({ data: Buffer.alloc(350_000) }));
        const { error } = await client.ask({ encryptMany: { key: 'warm', items } });
        expect(errorCodeOf(error!.code!)).toBe('INVALID_ARGUMENT');
        expect(error!.message).toMatch(/3 items counts 1050240 bytes, over maxPayload of 1048576/);
      }));

    it.each(['encryptMany', 'decryptMany', 'reencryptMany'] as const)(
      'refuses 500,000 empty items of %s before looking at any of them',
      (operation) =>
        withClient(async (client) => {
          const items = Buffer.alloc(1_000_000);
          for (let i = 0; i < items.length; i += 2) {
            items[i] = 0x7a;
          }
          const many = Buffer.concat([Writer.create().uint32(0x0a).string('warm').finish(), items]);
          const number = { encryptMany: 11, decryptMany: 12, reencryptMany: 13 }[operation];
          client.write(
            frameOf(
              Writer.create()
                .uint32(8)
                .uint32(2)
                .uint32((number << 3) | 2)
                .bytes(many)
                .finish(),
            ),
          );
          const { error } = await client.reply(2);
          expect(error!.message).toMatch(/500000 items counts 40000000 bytes/);
        }),
    );
  });

  describe('batches', () => {
    it('give each item its own result, in order, good and bad mixed', () =>
      withClient(async (client) => {
        const context = contextOf({ a: 'b' });
        const sealed = await client.ask({
          encryptMany: {
            key: 'warm',
            context,
            items: [
              { data: Buffer.from('0') },
              { data: Buffer.from('1'), key: 'other' },
              { data: Buffer.from('2'), partition: 'acme' },
              { data: Buffer.from('3'), context: contextOf({ c: 'd' }) },
              { data: Buffer.from('4'), context: Buffer.from([0, 1]) },
              { data: Buffer.alloc(0) },
              { data: Buffer.from('6'), key: '' },
              { data: Buffer.from('7'), context: Buffer.alloc(0) },
            ],
          },
        });
        const { values, errors } = sealed.many!;
        expect(values.map(({ length }) => length)).toEqual([59, 59, 59, 59, 0, 58, 0, 59]);
        expect(errors.map(({ index, error }) => [index, errorCodeOf(error!.code!)])).toEqual([
          [4, 'INVALID_ARGUMENT'],
          [6, 'INVALID_ARGUMENT'],
        ]);
        const opened = await client.ask({
          decryptMany: {
            key: 'warm',
            context,
            items: [
              { data: Buffer.from('junk') },
              { data: values[0]! },
              { data: values[1]! },
              { data: values[1]!, key: 'other' },
              { data: values[2]! },
              { data: values[2]!, partition: 'acme' },
              { data: values[3]! },
              { data: values[3]!, context: contextOf({ c: 'd' }) },
              { data: values[5]! },
              { data: values[7]!, context: Buffer.alloc(0) },
              { data: Buffer.concat([Buffer.from([0xc1, 0x02]), Buffer.alloc(60)]) },
              { data: values[0]!.slice(0, 57) },
            ],
          },
        });
        expect(opened.many!.values.map((value) => Buffer.from(value).toString())).toEqual(
          ['', '0', '', '1', '', '2', '', '3', '', '7', '', ''].map((text, i) =>
            opened.many!.errors.some(({ index }) => index === i) ? expect.anything() : text,
          ),
        );
        expect(opened.many!.errors.map(({ index, error }) => [index, errorCodeOf(error!.code!)])).toEqual([
          [0, 'MALFORMED'],
          [2, 'DECRYPTION_FAILED'],
          [4, 'DECRYPTION_FAILED'],
          [6, 'DECRYPTION_FAILED'],
          [10, 'UNSUPPORTED_VERSION'],
          [11, 'MALFORMED'],
        ]);
        // A failed item shows nothing: no plaintext and nothing left over in the buffer.
        for (const { index } of opened.many!.errors) {
          expect(opened.many!.values[index]!.every((byte) => byte === 0)).toBe(true);
        }
      }));

    it('of no items have no results', () =>
      withClient(async (client) => {
        expect((await client.ask({ encryptMany: { key: 'warm' } })).many).toMatchObject({ values: [], errors: [] });
        expect((await client.ask({ decryptMany: { key: 'warm' } })).many).toMatchObject({ values: [], errors: [] });
      }));

    it('re-encrypt each item under the newest version of its own key', () =>
      withClient(async (client) => {
        const { many } = await client.ask({
          encryptMany: { key: 'move', items: [{ data: Buffer.from('a') }, { data: Buffer.from('b'), key: 'move-2' }] },
        });
        const admin = await RawClient.greeted(agent.admin);
        await admin.ask({ admin: { rotate: { name: 'move' } } });
        admin.destroy();
        const moved = await client.ask({
          reencryptMany: {
            key: 'move',
            items: [{ data: many!.values[0]! }, { data: many!.values[1]!, key: 'move-2' }, { data: many!.values[1]! }],
          },
        });
        const [first, second] = moved.many!.values;
        expect(moved.many!.errors.map(({ index, error }) => [index, errorCodeOf(error!.code!)])).toEqual([
          [2, 'DECRYPTION_FAILED'],
        ]);
        const kid = (token: Uint8Array): string => Buffer.from(token.subarray(2, 18)).toString('hex');
        expect(kid(first!)).not.toBe(kid(many!.values[0]!));
        expect(kid(second!)).toBe(kid(many!.values[1]!));
        const back = await client.ask({
          decryptMany: { key: 'move', items: [{ data: first! }, { data: second!, key: 'move-2' }] },
        });
        expect(back.many!.values.map((value) => Buffer.from(value).toString())).toEqual(['a', 'b']);
      }));

    it('load each key they need once, and fail only the items of one that cannot be had', () =>
      withClient(async (client) => {
        const items = Array.from({ length: 60 }, (_, i) => ({
          data: Buffer.from(`${i}`),
          key: i % 3 === 0 ? 'batch-cold-a' : i % 3 === 1 ? 'batch-cold-b' : '.l3/default',
        }));
        const { many } = await client.ask({ encryptMany: { items } });
        expect(many!.errors.map(({ index }) => index)).toEqual(items.flatMap((_, i) => (i % 3 === 2 ? [i] : [])));
        expect(new Set(many!.errors.map(({ error }) => errorCodeOf(error!.code!)))).toEqual(
          new Set(['PERMISSION_DENIED']),
        );
        const { document } = await client.ask({ keyInfo: { key: 'batch-cold-a' } });
        expect(JSON.parse(Buffer.from(document!).toString()).versions).toHaveLength(1);
      }));
  });

  describe('sockets', () => {
    it('refuse admin commands on the data socket', () =>
      withClient(async (client) => {
        const { error } = await client.ask({ admin: { status: {} } });
        expect(errorCodeOf(error!.code!)).toBe('PERMISSION_DENIED');
      }));

    it('refuse data operations on the admin socket', async () => {
      const admin = await RawClient.greeted(agent.admin);
      for (const request of [
        { encrypt: { key: 'warm', data: DATA } },
        { decrypt: { key: 'warm', data: DATA } },
        { keyInfo: { key: 'warm' } },
        { encryptMany: { key: 'warm', items: [{ data: DATA }] } },
      ]) {
        expect(errorCodeOf((await admin.ask(request)).error!.code!)).toBe('UNSUPPORTED');
      }
      expect((await admin.ask({ ping: {} })).document).toBeTruthy();
      admin.destroy();
    });

    it('tell the operator why, under the incident of the caller', () =>
      withClient(async (client) => {
        const { value } = await client.ask({ encrypt: { key: 'warm', data: DATA } });
        const { error } = await client.ask({ decrypt: { key: 'another', data: value! } });
        expect(error!.message).toBe('decryption failed');
        const admin = await RawClient.greeted(agent.admin);
        const { document } = await admin.ask({ admin: { why: { incident: error!.incident! } } });
        expect(JSON.parse(Buffer.from(document!).toString())).toMatchObject({
          id: error!.incident,
          code: 'DECRYPTION_FAILED',
          reason: "the token is of key 'warm'",
          operation: 'decrypt',
          key: 'another',
        });
        const unknown = await admin.ask({ admin: { why: { incident: 'nosuch-0' } } });
        expect(errorCodeOf(unknown.error!.code!)).toBe('INVALID_ARGUMENT');
        admin.destroy();
      }));

    it('name in an incident the key of its own request, not of the one before', () =>
      withClient(async (client) => {
        await client.ask({ encrypt: { key: 'warm', data: DATA } });
        const { error } = await client.ask({ admin: { status: {} } });
        const keyInfo = await client.ask({ keyInfo: { key: 'nobody-made-this' } });
        const admin = await RawClient.greeted(agent.admin);
        const why = async (incident: string): Promise<unknown> =>
          JSON.parse(Buffer.from((await admin.ask({ admin: { why: { incident } } })).document!).toString());
        expect(await why(error!.incident!)).toMatchObject({ key: '', operation: 'admin' });
        expect(await why(keyInfo.error!.incident!)).toMatchObject({ key: 'nobody-made-this', operation: 'keyInfo' });
        admin.destroy();
      }));
  });

  it('sends errors with their number, whether to retry, and an incident', () =>
    withClient(async (client) => {
      const { error } = await client.ask({ decrypt: { key: 'warm', data: Buffer.from('x') } });
      expect(error).toMatchObject({ code: ERROR_CODES.MALFORMED.number });
      expect(error!.retryable ?? false).toBe(false);
      expect(error!.incident).toMatch(/^[0-9a-z]{5}-[0-9a-z]+$/);
    }));

  it('reads what the generated code writes', () => {
    // One definition, two readers: the generated decoder must agree with the bytes the tests above made by hand.
    const frame = requestFrame({ id: 3, timeoutMs: 9, encrypt: { key: 'k', data: DATA } });
    expect(messages.Request.decode(frame.subarray(4))).toMatchObject({ id: 3, timeoutMs: 9 });
  });
});
