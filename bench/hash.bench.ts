/** MACs and blind indexes: by the engines, and by an agent, beside HMAC of node:crypto in the application's own process. */
import { createHmac, createSecretKey, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inFlight } from '../src/cli/bench/in-flight.ts';
import { connect } from '../src/client/index.ts';
import { type Engine, MAC_LENGTH, ROW, ROW_WORDS } from '../src/crypto/engine.ts';
import { macScope } from '../src/envelope/mac-scope.ts';
import { ENTRY } from './support/agent-process.ts';
import { Child } from './support/child.ts';
import { type Group, repeat, type Subject } from './support/group.ts';
import type { Work } from './support/interleave.ts';
import { BINDING } from './support/scenarios.ts';
import { openEngine } from './support/sealer.ts';

const BYTES = 64;
const BATCH = 1_000;
const WIDTH = 1_024;
const ENGINES = ['native', 'node', 'noble'] as const;
const COLUMN = { key: BINDING.key, table: 'users', column: 'email' } as const;

/** What an application does for itself: a key object, and one HMAC a value. */
function inProcess(items: number): Work {
  const key = createSecretKey(randomBytes(32));
  const data = randomBytes(BYTES);
  return repeat(() => {
    for (let i = 0; i < items; i++) {
      createHmac('sha256', key).update(data).digest();
    }
  });
}

/** One call of the engine for `items` values. */
function byEngine(engine: Engine, items: number): Work {
  const key = engine.generateKey({ algorithm: 'hmac-sha-256', purpose: 'mac' });
  const input = randomBytes(items * BYTES);
  const output = new Uint8Array(items * MAC_LENGTH);
  const scopes = macScope('dekd/v1/hmac', [BINDING.key, '']);
  const table = new Uint32Array(items * ROW_WORDS);
  for (let item = 0; item < items; item++) {
    const row = item * ROW_WORDS;
    table[row + ROW.key] = key;
    table[row + ROW.dataOffset] = item * BYTES;
    table[row + ROW.dataLength] = BYTES;
    table[row + ROW.outOffset] = item * MAC_LENGTH;
  }
  return repeat(() => engine.macMany(table, items, scopes, input, output));
}

function engines(items: number): Group {
  const label = items === 1 ? '64B' : `${items}×64B`;
  return {
    name: `hmac ${label}`,
    baseline: `hmac/in-process/${label}`,
    async open() {
      const opened = (await Promise.allSettled(ENGINES.map(openEngine))).flatMap((result) =>
        result.status === 'fulfilled' ? [result.value] : [],
      );
      const subjects = opened.map(
        (engine): Subject => ({
          name: `hmac/${engine.info.name}/${label}`,
          bytes: BYTES,
          items,
          work: byEngine(engine, items),
        }),
      );
      subjects.push({ name: `hmac/in-process/${label}`, bytes: BYTES, items, work: inProcess(items) });
      return {
        subjects,
        close() {
          for (const engine of opened) {
            engine.close();
          }
        },
      };
    },
  };
}

/** As deployed, but for the quota, which is what would be measured else. */
class AgentWithoutQuota {
  readonly folder = mkdtempSync(join(tmpdir(), 'dekd-bench-'));
  readonly socket = join(this.folder, 's', 'agent.sock');
  readonly #child: Child;

  constructor() {
    const keyFile = join(this.folder, 'root.key');
    const config = join(this.folder, 'config.yaml');
    writeFileSync(keyFile, `${randomBytes(32).toString('base64')}\n`, { mode: 0o600 });
    const document = {
      memory: { level: 'heap', allowInsecureMemory: true },
      socket: { path: this.socket, allowOwnUid: true },
      state: join(this.folder, 'state'),
      roots: { main: { provider: 'local', keyFile, allowLocalRoot: true } },
      policy: {
        rules: [
          {
            name: 'bench',
            callers: { uid: process.getuid!() },
            keys: '*',
            operations: ['hmac', 'verifyHmac', 'blindIndex'],
            create: { max: 1 },
            blindIndexPerSecond: 1_000_000_000,
          },
        ],
      },
    };
    writeFileSync(config, JSON.stringify(document));
    this.#child = new Child(ENTRY, ['run', '--config', config], { flags: ['--disable-sigusr1'] });
  }

  ready(): Promise<void> {
    return this.#child.says('agent ready');
  }

  async stop(): Promise<void> {
    if (!this.#child.exited) {
      const ended = once(this.#child.process, 'exit');
      this.#child.process.kill('SIGTERM');
      await ended;
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}

const agents: Group = {
  name: 'hash agent',
  baseline: 'hmac/in-process-values/64B',
  async open() {
    const agent = new AgentWithoutQuota();
    await agent.ready();
    const client = connect({ socket: agent.socket });
    const data = randomBytes(BYTES);
    const mac = await client.hmac(data, BINDING);
    if (!(await client.verifyHmac(data, mac, BINDING))) {
      throw new Error('the agent does not verify what it made');
    }
    const values = Array.from({ length: BATCH }, (_, i) => `ada.lovelace.${i}@example.org`.padEnd(BYTES, '.'));
    const last = (await client.blindIndexMany(values, COLUMN)).at(-1);
    if (!last?.ok || last.value !== (await client.blindIndex(values.at(-1)!, COLUMN))) {
      throw new Error('an index of a batch is another than that of a value');
    }
    const subjects: Subject[] = [
      {
        name: 'hmac/awaited/64B',
        bytes: BYTES,
        latency: true,
        work: (count) => inFlight(1, count, () => client.hmac(data, BINDING)),
      },
      {
        name: 'blind-index/awaited/64B',
        bytes: BYTES,
        latency: true,
        work: (count) => inFlight(1, count, () => client.blindIndex(values[0]!, COLUMN)),
      },
      {
        name: 'hmac/in-flight/64B',
        bytes: BYTES,
        items: WIDTH,
        work: (count) => inFlight(WIDTH, count * WIDTH, () => client.hmac(data, BINDING)),
      },
      {
        name: 'verify-hmac/in-flight/64B',
        bytes: BYTES,
        items: WIDTH,
        work: (count) => inFlight(WIDTH, count * WIDTH, () => client.verifyHmac(data, mac, BINDING)),
      },
      {
        name: `blind-index/batch-of-${BATCH}/64B`,
        bytes: BYTES,
        items: BATCH,
        work: (count) => inFlight(1, count, () => client.blindIndexMany(values, COLUMN)),
      },
      { name: 'hmac/in-process-values/64B', bytes: BYTES, work: inProcess(1) },
    ];
    return {
      subjects,
      async close() {
        await client.close();
        await agent.stop();
      },
    };
  },
};

export const groups: readonly Group[] = [engines(1), engines(BATCH), agents];
