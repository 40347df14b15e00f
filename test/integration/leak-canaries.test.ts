/**
 * Everything that an agent says, searched for what it must not: plaintexts, context values, tokens and keys, in every form that they
 * could be in. The calls are of every kind, right and wrong, and frames that nobody should send.
 */
import { createCipheriv, randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterEach, describe, expect, it } from 'vitest';
import { askAdmin } from '../../src/client/admin-request.ts';
import { Channel } from '../../src/client/channel.ts';
import { connect, type DekdClient } from '../../src/client/index.ts';
import type { AdminFields } from '../../src/protocol/messages.ts';
import { type ChildAgent, spawnTestAgent } from '../support/agent.ts';
import { AUDIT_KEY, writeAuditKey } from '../support/audit.ts';
import { canary, formsFound } from '../support/canary.ts';
import { contentBelow } from '../support/file-tree.ts';
import { frameOf, HELLO, RawClient, requestFrame } from '../support/raw-client.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const PLAIN = canary('plaintext');
const VALUE = canary('context-value');
const INDEXED = canary('indexed');
const OLD = canary('envelope');
const ROOT_KEY = randomBytes(32);
const LEGACY_KEY = randomBytes(32);
const RAW_AES_KEY = randomBytes(32);

const YAML = `
engine: auto
memory: { level: heap, allowInsecureMemory: true }
socket: { path: FOLDER/s/agent.sock, allowOwnUid: true }
state: FOLDER/state
log: { level: debug }
audit: { to: file, file: FOLDER/audit/audit.jsonl, keyFile: FOLDER/audit.key, requests: all, anchors: { file: FOLDER/audit/anchors.jsonl, lines: 10 } }
roots: { main: { provider: local, keyFile: FOLDER/root.key, allowLocalRoot: true } }
recipients: { partner: { rawAes: { namespace: partner, name: k1, keyFile: FOLDER/raw.key } } }
keys: [{ name: shared, recipients: [keystore, partner] }, { name: strict, requiredContext: [tenant] }]
legacy: { keys: [{ kid: v1, keyFile: FOLDER/legacy.key }] }
policy:
  rules:
    - { name: own, callers: { socket: data }, keys: [k, shared, strict, '*-here'], operations: [encrypt, decrypt, reencrypt, anyKey, keyInfo, hmac, verifyHmac, blindIndex, openLegacy, migrateLegacy], create: { max: 100 }, blindIndexPerSecond: 10 }
`;

const stops: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) {
    await stop();
  }
});

interface Scene {
  readonly folder: string;
  readonly agent: ChildAgent;
  readonly dekd: DekdClient;
  /** What came of calls: every error as callers see it. */
  readonly errors: string[];
  /** Does something whose failure is looked at. */
  readonly attempt: (what: () => unknown) => Promise<unknown>;
  readonly command: (fields: AdminFields) => Promise<unknown>;
}

async function scene(): Promise<Scene> {
  const folder = temporaryFolder();
  const line = (key: Buffer) => `${key.toString('base64')}\n`;
  for (const [name, key] of [
    ['root.key', ROOT_KEY],
    ['legacy.key', LEGACY_KEY],
    ['raw.key', RAW_AES_KEY],
  ] as const) {
    writeFileSync(join(folder, name), line(key), { mode: 0o600 });
  }
  writeAuditKey(folder);
  const config = join(folder, 'config.yaml');
  writeFileSync(config, YAML.replaceAll('FOLDER', folder));
  const agent = await spawnTestAgent(join(folder, 's/agent.sock'), ['run', '--config', config]);
  stops.push(async () => {
    agent.child.kill('SIGTERM');
    await agent.exited;
  });
  const dekd = connect({ socket: agent.socket, timeoutMs: 5_000 });
  stops.push(() => dekd.close());
  const errors: string[] = [];
  return {
    folder,
    agent,
    dekd,
    errors,
    async attempt(what) {
      try {
        return await what();
      } catch (error) {
        const { message, stack, cause } = error as Error;
        errors.push(JSON.stringify({ ...(error as object), message, stack, cause: String(cause) }));
        return undefined;
      }
    },
    async command(fields) {
      const channel = await Channel.open(join(folder, 's/admin.sock'), undefined, 5_000, () => {});
      try {
        return await askAdmin(channel, fields);
      } finally {
        channel.close();
      }
    },
  };
}

/** Calls of every kind, right and wrong. @returns tokens and messages that came of them */
async function everything({ agent, dekd, attempt, command }: Scene): Promise<Uint8Array[]> {
  const plain = Buffer.from(PLAIN);
  const context = { field: VALUE };
  const binding = { key: 'k', context };
  const made: Uint8Array[] = [];
  const token = await dekd.encrypt(plain, binding);
  const text = await dekd.encryptText(PLAIN, { ...binding, partition: 'acme' });
  const mac = await dekd.hmac(PLAIN, binding);
  const message = await buffer(Readable.from([plain]).pipe(dekd.encryptStream(binding)));
  const shared = await buffer(Readable.from([plain]).pipe(dekd.encryptStream({ key: 'shared' })));
  const large = await dekd.encryptLarge({ card: PLAIN }, { ...binding, compression: true });
  made.push(
    token,
    Buffer.from(text.slice(4), 'base64url'),
    mac,
    message.subarray(-64),
    shared.subarray(-64),
    large.subarray(-64),
  );

  const flipped = Buffer.from(token);
  flipped[flipped.length - 1]! ^= 1;
  const cut = message.subarray(0, message.length - 20);
  const open = (bytes: Uint8Array) => buffer(Readable.from([bytes]).pipe(dekd.decryptStream(binding)));
  const cipher = createCipheriv('aes-256-gcm', LEGACY_KEY, Buffer.alloc(12, 5));
  const sealed = Buffer.concat([cipher.update(OLD), cipher.final(), cipher.getAuthTag()]);
  const envelope = (ct: string, kid = 'v1') =>
    Buffer.from(JSON.stringify({ __enc: 1, kid, iv: Buffer.alloc(12, 5).toString('base64'), ct }));
  const envelopes = [
    envelope(sealed.toString('base64')),
    envelope(`${sealed.toString('base64')}AAAA`),
    envelope(PLAIN),
    envelope(sealed.toString('base64'), 'unknown'),
    plain,
  ];
  for (const what of [
    () => dekd.decrypt(token, binding),
    () => dekd.decryptText(text, { ...binding, partition: 'acme' }),
    () => dekd.decrypt(token, { anyKey: true, context }),
    () => dekd.decrypt(token, { key: 'k', context: { field: `${VALUE}x` } }),
    () => dekd.decrypt(token, { key: 'k', context: { field: VALUE, more: VALUE } }),
    () => dekd.decrypt(token, { key: 'other', context }),
    () => dekd.decrypt(token, { key: 'other-here', context }),
    () => dekd.decrypt(flipped, binding),
    () => dekd.decrypt(token.subarray(0, 40), binding),
    () => dekd.decrypt(plain, binding),
    () => dekd.decryptText(PLAIN, binding),
    () => dekd.decryptText(`dk1.${PLAIN}`, binding),
    () => dekd.encrypt(plain, { key: 'strict', context }),
    () => dekd.encrypt(plain, { key: 'forbidden', context }),
    () => dekd.encrypt(plain, { key: 'k', context: { field: { nested: VALUE } } as never }),
    () => dekd.encrypt(plain, { key: 'k', context: { 'aws-crypto-x': VALUE } }),
    () => dekd.encrypt(PLAIN as never, binding),
    () => dekd.encrypt(Buffer.concat(Array.from({ length: 40_000 }, () => plain)), binding),
    () => dekd.encryptMany([plain, { data: plain, key: 'forbidden' }, { data: plain, context }], { key: 'k' }),
    () => dekd.decryptMany([token, flipped, plain, { data: token, key: 'forbidden' }], binding),
    () => dekd.reencrypt(token, binding),
    () => dekd.reencrypt(flipped, binding),
    () => dekd.reencryptMany([token, plain], binding),
    () => dekd.verifyHmac(PLAIN, mac, binding),
    () => dekd.verifyHmac(PLAIN, PLAIN, binding),
    () => dekd.hmac(PLAIN, { key: 'forbidden', context }),
    () => dekd.blindIndex(INDEXED, { key: 'k', table: 'users', column: 'email' }),
    () =>
      dekd.blindIndexMany(
        Array.from({ length: 50 }, () => INDEXED),
        { key: 'k', table: 'u', column: 'e', timeoutMs: 300 },
      ),
    () => dekd.fingerprint(INDEXED, { key: 'k' }),
    () => open(message),
    () => open(cut),
    () => open(plain),
    () => open(Buffer.concat([message, plain])),
    () => buffer(Readable.from([message]).pipe(dekd.decryptStream({ key: 'k', context: { field: 'x' } }))),
    () => buffer(Readable.from([shared]).pipe(dekd.decryptStream({ key: 'shared' }))),
    () => buffer(Readable.from([message]).pipe(dekd.reencryptStream(binding))),
    () => dekd.decryptLarge(large, binding),
    () => dekd.decryptLarge(plain, binding),
    () => dekd.openLegacy(envelopes, { key: 'k' }),
    () => dekd.migrateLegacy(envelopes, { key: 'k', context } as never),
    () => dekd.openLegacy(envelopes, { key: 'forbidden' }),
    () => dekd.keyInfo('k'),
    () => dekd.keyInfo('forbidden'),
    () => command({ rotate: { name: 'k' } }),
    () => command({ rotate: { name: 'none' } }),
    () => command({ export: {} }),
    () => command({ import: { records: plain } }),
    () => command({ destroy: { name: 'k', version: 1 } }),
    () => dekd.decrypt(token, binding),
  ]) {
    await attempt(what);
  }
  await frames(agent.socket);
  return made;
}

/** What no client of ours sends, with a plaintext in it. */
async function frames(socket: string): Promise<void> {
  const plain = Buffer.from(PLAIN);
  const value = Buffer.from(VALUE);
  const prefixed = Buffer.from([0x0a, plain.length]);
  for (const bytes of [
    frameOf(plain),
    frameOf(Buffer.concat([prefixed, plain])),
    Buffer.concat([Buffer.from([0xff, 0xff, 0xff, 0xff]), plain]),
    requestFrame({
      id: 7,
      encrypt: { key: 'k', data: plain, context: Buffer.concat([Buffer.from([0, 1, 0, 200]), value]) } as never,
    }),
    requestFrame({ id: 8, decrypt: { key: 'k', data: plain } as never }),
    requestFrame({ id: 0, encrypt: { key: 'k', data: plain } as never }),
    frameOf(Buffer.concat([Buffer.from([0x08, 0x09, 0xfa, 0x3f, plain.length]), plain])),
    frameOf(Buffer.concat([Buffer.from([0x08, 0x0a, 0x1a, 0x7f]), plain])),
  ]) {
    const raw = await RawClient.greeted(socket);
    raw.write(bytes);
    raw.send({ ping: {} });
    await Promise.race([raw.closed, new Promise((resolve) => setTimeout(resolve, 60))]);
    raw.socket.destroy();
  }
  const rude = await RawClient.connect(socket);
  rude.write(requestFrame({ id: 1, hello: { ...HELLO, token: plain } as never }));
  rude.write(frameOf(plain));
  await Promise.race([rude.closed, new Promise((resolve) => setTimeout(resolve, 60))]);
  rude.socket.destroy();
}

/** Where any of what is sought is found, and in which form. */
async function leaks({ folder, agent, errors, command }: Scene, tokens: readonly Uint8Array[]): Promise<string[]> {
  const status = await command({ status: {} });
  const said: [string, Uint8Array][] = [
    ['standard output and error', Buffer.from(agent.output())],
    ['errors', Buffer.from(errors.join('\n'))],
    ['status', Buffer.from(JSON.stringify(status))],
    ...[...contentBelow(join(folder, 'audit'))].map(
      ([name, bytes]) => [`audit/${name}`, bytes] as [string, Uint8Array],
    ),
  ];
  for (const incident of Array.from(agent.output().matchAll(/"incident":"([\w-]+)"/g), ([, id]) => id!)) {
    said.push([`why ${incident}`, Buffer.from(JSON.stringify(await command({ why: { incident } })))]);
  }
  const sought: [string, string | Uint8Array][] = [
    ['plaintext', PLAIN],
    ['context value', VALUE],
    ['indexed value', INDEXED],
    ['value of an envelope', OLD],
    ['root key', ROOT_KEY],
    ['key of envelopes', LEGACY_KEY],
    ['raw AES key', RAW_AES_KEY],
    ['audit key', AUDIT_KEY.subarray(0, 24)],
    ...tokens.map((token, at): [string, Uint8Array] => [`token ${at}`, token.subarray(-24)]),
  ];
  return said.flatMap(([where, bytes]) =>
    sought.flatMap(([what, one]) => formsFound(bytes, one).map((form) => `${what} in ${where}, ${form}`)),
  );
}

describe('what an agent says', () => {
  it('has no plaintext, context value, token or key in it, whatever callers do', async () => {
    const all = await scene();
    const tokens = await everything(all);
    // The last records wait for others of their block.
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(all.errors.length).toBeGreaterThan(20);
    expect(all.agent.output().split('\n').length).toBeGreaterThan(20);
    expect(readFileSync(join(all.folder, 'audit/audit.jsonl'), 'utf8').split('\n').length).toBeGreaterThan(40);
    expect(await leaks(all, tokens)).toEqual([]);
  }, 60_000);

  it('is searched in every place: a secret that is used as a name is found in each', async () => {
    const all = await scene();
    await all.attempt(() => all.dekd.encrypt(Buffer.from('x'), { key: PLAIN }));
    all.errors.push(Buffer.from(PLAIN).toString('base64url'));
    mkdirSync(join(all.folder, 'audit/more'));
    writeFileSync(join(all.folder, 'audit/more/key'), ROOT_KEY.toString('hex'));
    await new Promise((resolve) => setTimeout(resolve, 100));
    const found = (await leaks(all, [])).join('\n');
    expect(found).toMatch(/plaintext in standard output and error, as it is/);
    expect(found).toMatch(/plaintext in audit\/audit.jsonl, as it is/);
    expect(found).toMatch(/plaintext in why [\w-]+, as it is/);
    expect(found).toMatch(/plaintext in errors, base64url at 0/);
    expect(found).toMatch(/root key in audit\/more\/key, hex/);
  }, 60_000);
});
