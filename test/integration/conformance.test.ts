/** The conformance kit, with our own client, and with clients that are wrong in one point each. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NODE, startTestAgent, type TestAgent } from '../support/agent.ts';
import { type KitResult, runKit } from '../support/conformance.ts';
import { ROOT, run } from '../support/source-copy.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

let agent: TestAgent;

beforeAll(async () => {
  agent = await startTestAgent();
});
afterAll(() => agent.stop());

const namesOf = (results: readonly KitResult[], state: string) =>
  results.filter((each) => each.state === state).map(({ name, why }) => `${name}: ${why}`);

describe('the conformance kit', () => {
  it('has the vectors that the code makes', async () => {
    const done = await run(NODE, ['proto/generate-conformance.mjs', '--check'], { cwd: ROOT });
    expect(done).toEqual({ code: 0, stdout: '', stderr: '' });
  });

  it('is passed by our own client, the whole of it', { timeout: 60_000 }, async () => {
    const results = await runKit([NODE, join(ROOT, 'test/support/conformance-client.ts')], { socket: agent.socket });
    expect(namesOf(results, 'failed')).toEqual([]);
    expect(namesOf(results, 'skipped')).toEqual([]);
    expect(results.length).toBeGreaterThan(100);
  });

  it.for([
    [
      'takes padding off the text of a token',
      'decryptText: (text, options) => client.decryptText(text.replace(/=+$/, ""), options)',
      'token-text: refused: padding',
    ],
    [
      'asks again whatever went wrong',
      'decrypt: (token, options) => client.decrypt(token, options).catch(() => client.decrypt(token, options))',
      'errors: KMS_UNAVAILABLE is told once, and not asked again',
    ],
    [
      'gives up at the first loss',
      'encrypt: (data, options) => client.encrypt(data, { ...options, timeoutMs: 3 })',
      'retries: an agent that does not answer, up to the deadline',
    ],
    [
      'leaves numbers in a context for text',
      'encrypt: (data, { context = {}, ...options }) => client.encrypt(data, { ...options, context: Object.fromEntries(Object.entries(context).map(([name, value]) => [name, typeof value === "number" ? String(value) : value])) })',
      'contexts: refused: a number',
    ],
  ])('fails a client that %s', { timeout: 60_000 }, async ([, override, failing]) => {
    const module = join(temporaryFolder(), 'wrong.mjs');
    const own = pathToFileURL(join(ROOT, 'src/client/index.ts')).href;
    writeFileSync(
      module,
      `import { connect as own } from '${own}';
      export function connect(options) {
        const client = own(options);
        const overrides = { ${override} };
        return new Proxy(client, {
          get: (_, name) => overrides[name] ?? (typeof client[name] === 'function' ? client[name].bind(client) : client[name]),
        });
      }`,
    );
    const [kind = ''] = failing!.split(':');
    const results = await runKit([NODE, join(ROOT, 'test/support/conformance-client.ts')], {
      only: kind,
      client: pathToFileURL(module).href,
    });
    expect(results.filter(({ state }) => state === 'failed').map(({ name }) => name)).toContain(failing);
  });

  it('fails a client that ends, or says what is not JSON', async () => {
    for (const code of ['process.exit(3)', 'console.log("hello")']) {
      const results = await runKit([NODE, '-e', code], { only: 'calls: encrypt' });
      expect(new Set(results.map(({ state }) => state))).toEqual(new Set(['failed']));
    }
  });
});
