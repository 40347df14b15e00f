/** Our own client as the conformance kit drives it (`proto/conformance/README.md`); the package is chosen by DEKD_KIT_CLIENT. */
import { createInterface } from 'node:readline';
import type { DekdClient, DekdError, ManyResult } from '../../src/client/index.ts';

type Fields = Record<string, unknown>;

const { connect } = (await import(process.env.DEKD_KIT_CLIENT ?? '../../src/client/index.ts')) as {
  connect(options: object): DekdClient;
};
let client: DekdClient | undefined;

const bytes = (hex: unknown) => new Uint8Array(Buffer.from(hex as string, 'hex'));
const hex = (value: Uint8Array) => Buffer.from(value).toString('hex');

function shownError({ code, message, retryable, retryAfterMs, incident }: DekdError): object {
  return { code, message, retryable, retryAfterMs, incident };
}

function shownMany(results: readonly ManyResult[]): object[] {
  return results.map((each) =>
    each.ok ? { ok: true, value: hex(each.value) } : { ok: false, error: shownError(each.error) },
  );
}

async function perform({ op, data, token, text, items, ...options }: Fields): Promise<unknown> {
  if (op === 'connect') {
    await client?.close();
    client = connect({ ...options, lane: false, ...(token === undefined ? {} : { token: bytes(token) }) });
    return null;
  }
  const many = () => (items as Fields[]).map((item) => ({ ...item, data: bytes(item.data) }));
  const given = options as never;
  switch (op) {
    case 'encrypt':
      return hex(await client!.encrypt(bytes(data), given));
    case 'decrypt':
      return hex(await client!.decrypt(bytes(token), given));
    case 'reencrypt':
      return hex(await client!.reencrypt(bytes(token), given));
    case 'encryptText':
      return client!.encryptText(text as string, given);
    case 'decryptText':
      return client!.decryptText(text as string, given);
    case 'encryptMany':
      return shownMany(await client!.encryptMany(many() as never, given));
    case 'decryptMany':
      return shownMany(await client!.decryptMany(many() as never, given));
    case 'reencryptMany':
      return shownMany(await client!.reencryptMany(many() as never, given));
    case 'keyInfo':
      return client!.keyInfo(options.key as string, given);
    case 'ping':
      return client!.ping(given);
    case 'close':
      return (await client!.close()) ?? null;
    default:
      return undefined;
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const { id, ...request } = JSON.parse(line) as Fields;
  const say = (answer: object) => console.log(JSON.stringify({ id, ...answer }));
  perform(request).then(
    (value) => say(value === undefined ? { unsupported: true } : { ok: true, value }),
    (error) => say({ ok: false, error: shownError(error as DekdError) }),
  );
}
