/** One call of each kind, one after the other, over values that are frozen: what a client says and is answered. */
import type { DekdClient } from '../../src/client/types.ts';

export interface GoldenValue {
  readonly key: string;
  readonly partition?: string;
  readonly context?: Readonly<Record<string, string>>;
  /** `dk1.…` */
  readonly text: string;
  /** Base64. */
  readonly plaintext: string;
}

/** What the calls gave, as JSON; `encrypted` is another each time and stands for itself. */
export interface GoldenAnswers {
  readonly opened: string;
  readonly refused: string;
  readonly many: readonly string[];
  readonly mac: string;
  readonly verified: readonly boolean[];
  readonly index: string;
  readonly fingerprint: string;
  readonly encrypted: string;
  readonly encryptedMany: readonly string[];
}

export async function goldenCalls(dekd: DekdClient, values: readonly GoldenValue[]): Promise<GoldenAnswers> {
  const [first] = values;
  const { text, plaintext: _, ...options } = first!;
  const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
  const code = (error: unknown): string => `${(error as { code: string }).code} ${(error as Error).message}`;
  const opened = base64(await dekd.decrypt(Buffer.from(text.slice(4), 'base64url'), options));
  const refused = await dekd.decryptText(text, { ...options, context: { row: 'another' } }).catch(code);
  const items = values.map(({ text: each, key, partition, context }) => ({
    data: Buffer.from(each.slice(4), 'base64url'),
    key,
    ...(partition === undefined ? {} : { partition }),
    ...(context === undefined ? {} : { context }),
  }));
  const many = await dekd.decryptMany(items, { key: options.key });
  const mac = await dekd.hmacText('message', options);
  const verified = [await dekd.verifyHmac('message', mac, options), await dekd.verifyHmac('other', mac, options)];
  const index = await dekd.blindIndex('ada@example.org', { key: options.key, table: 'users', column: 'email' });
  const fingerprint = await dekd.fingerprint('ada@example.org', { key: options.key });
  const encrypted = await dekd.encryptText('fresh', options);
  const made = await dekd.encryptMany(
    [Buffer.from('one'), { data: Buffer.from('two'), context: { row: '2' } }],
    options,
  );
  return {
    opened,
    refused,
    many: many.map((result) => (result.ok ? base64(result.value) : code(result.error))),
    mac,
    verified,
    index,
    fingerprint,
    encrypted,
    encryptedMany: made.map((result) => (result.ok ? base64(result.value) : code(result.error))),
  };
}
