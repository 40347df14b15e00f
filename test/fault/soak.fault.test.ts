/**
 * An agent for minutes or hours: some 2,000 operations a second of every kind, and something going wrong all the time. Nothing of it
 * may answer wrongly, and nothing may be left of what is over. DEKD_SOAK_MINUTES says how long; `npm run test:soak` takes ten.
 */
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type DekdClient } from '../../src/client/index.ts';
import { type ChildAgent, runYaml, spawnTestAgent, writeRunConfig } from '../support/agent.ts';
import { RawClient, requestFrame } from '../support/raw-client.ts';
import { makeFolder, removeFolder } from '../support/temporary-folder.ts';
import { report } from './support/agent-process.ts';

const MINUTES = Number(process.env.DEKD_SOAK_MINUTES ?? 1);
const TICK_MS = 10;
const SAMPLE_MS = 5_000;
/** Something goes wrong this often. */
const FAULT_MS = 6_000;
const KEYS = ['customers', 'orders', 'tokens', 'files'];
const MIB = 1024 * 1024;

interface Sample {
  readonly hours: number;
  readonly residentMib: number;
  readonly files: number;
  readonly threads: number;
}

function sampleOf(pid: number, begun: number): Sample {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const field = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)![1]);
  return {
    hours: (performance.now() - begun) / 3_600_000,
    residentMib: field('VmRSS') / 1024,
    files: readdirSync(`/proc/${pid}/fd`).length,
    threads: field('Threads'),
  };
}

/** Least squares, in MiB an hour. */
function slopeOf(samples: readonly Sample[]): number {
  const mean = (of: (sample: Sample) => number) => samples.reduce((sum, each) => sum + of(each), 0) / samples.length;
  const [x, y] = [mean(({ hours }) => hours), mean(({ residentMib }) => residentMib)];
  const over = samples.reduce((sum, { hours, residentMib }) => sum + (hours - x) * (residentMib - y), 0);
  return over / samples.reduce((sum, { hours }) => sum + (hours - x) ** 2, 0);
}

class Work {
  calls = 0;
  readonly wrong: string[] = [];
  readonly #client: DekdClient;
  readonly #tokens: { readonly key: string; readonly token: Uint8Array; readonly text: string }[] = [];

  constructor(client: DekdClient) {
    this.#client = client;
  }

  /** One tick: twenty values, alone and in batches, a MAC, and one that must not open. */
  async tick(round: number): Promise<void> {
    const key = KEYS[round % KEYS.length]!;
    const text = `value ${round}`;
    await Promise.all([
      this.#once(async () => {
        const token = await this.#client.encrypt(Buffer.from(text), { key });
        this.#tokens[round % 5_000] = { key, token, text };
      }),
      this.#once(async () => {
        const known = this.#tokens[Math.floor(Math.random() * this.#tokens.length)];
        if (known !== undefined) {
          const opened = Buffer.from(await this.#client.decrypt(known.token, { key: known.key })).toString();
          this.#check(opened === known.text, `${opened} for ${known.text}`);
        }
      }),
      this.#once(async () => {
        const many = await this.#client.encryptMany(
          Array.from({ length: 15 }, (_, item) => Buffer.from(`${text}/${item}`)),
          { key },
        );
        this.calls += 14;
        this.#check(
          many.every(({ ok }) => ok),
          'an item of a batch failed',
        );
      }),
      this.#once(async () => {
        const mac = await this.#client.hmac(Buffer.from(text), { key });
        this.#check(await this.#client.verifyHmac(Buffer.from(text), mac, { key }), 'a MAC does not verify');
      }),
      this.#once(async () => {
        const opened = await this.#client.decrypt(randomBytes(80), { key }).then(
          () => 'opened',
          (error: { code: string }) => error.code,
        );
        this.#check(/MALFORMED|UNSUPPORTED_VERSION|DECRYPTION_FAILED/.test(opened), `garbage: ${opened}`);
      }),
    ]);
  }

  async large(): Promise<void> {
    await this.#once(async () => {
      const value = randomBytes(2 * MIB);
      const message = await this.#client.encryptLarge(value, { key: 'files' });
      this.#check(
        Buffer.from((await this.#client.decryptLarge(message, { key: 'files' })) as Uint8Array).equals(value),
        'large',
      );
    });
  }

  #check(isRight: boolean, what: string): void {
    if (!isRight) {
      this.wrong.push(what);
    }
  }

  async #once(call: () => Promise<void>): Promise<void> {
    this.calls += 1;
    try {
      await call();
    } catch (error) {
      this.wrong.push(String(error));
    }
  }
}

describe('an agent that works for a long time', () => {
  const folder = makeFolder();
  let agent: ChildAgent;

  beforeAll(async () => {
    const config = writeRunConfig(folder);
    const rules = runYaml().replace('keyInfo]', 'keyInfo, hmac, verifyHmac]').replaceAll('FOLDER', folder);
    writeFileSync(config, rules);
    agent = await spawnTestAgent(`${folder}/s/agent.sock`, ['run', '--config', config]);
  });
  afterAll(async () => {
    agent?.child.kill('SIGTERM');
    await agent?.exited;
    removeFolder(folder);
  });

  const faults: readonly (() => Promise<void>)[] = [
    async () => {
      agent.child.kill('SIGHUP');
    },
    async () => {
      const admin = await RawClient.greeted(`${folder}/s/admin.sock`);
      await admin.ask({ admin: { rotate: { name: 'orders' } } });
      admin.destroy();
    },
    async () => {
      const frame = requestFrame({ id: 1, encrypt: { key: 'orders', data: Buffer.alloc(100_000) } });
      for (let i = 0; i < 50; i++) {
        const client = await RawClient.greeted(agent.socket);
        client.write(frame.subarray(0, 1_000 + i));
        client.destroy();
      }
    },
    async () => {
      const deaf = await RawClient.greeted(agent.socket);
      for (let i = 1; i <= 200; i++) {
        deaf.write(requestFrame({ id: i, encrypt: { key: 'orders', data: Buffer.alloc(50_000) } }));
      }
      await sleep(1_000);
      deaf.destroy();
    },
  ];

  it(`answers right for ${MINUTES} minutes, and keeps nothing of what is over`, {
    timeout: (MINUTES + 5) * 60_000,
  }, async () => {
    const client = connect({ socket: agent.socket });
    const work = new Work(client);
    for (let round = 0; round < 500; round++) {
      await work.tick(round);
    }
    await sleep(3_000);
    const before = sampleOf(agent.pid, performance.now());
    const begun = performance.now();
    const samples: Sample[] = [];
    const until = begun + MINUTES * 60_000;
    let [sampled, failed] = [begun, begun];
    let happened = 0;
    let under = 0;
    for (let round = 500; performance.now() < until; round++) {
      const tick = performance.now();
      if (under < 50) {
        under += 1;
        void work.tick(round).finally(() => {
          under -= 1;
        });
      }
      if (tick - sampled > SAMPLE_MS) {
        sampled = tick;
        samples.push(sampleOf(agent.pid, begun));
        await work.large();
      }
      if (tick - failed > FAULT_MS) {
        failed = tick;
        await faults[happened++ % faults.length]!();
      }
      await sleep(Math.max(0, TICK_MS - (performance.now() - tick)));
    }
    while (under > 0) {
      await sleep(10);
    }
    await sleep(20_000);
    const after = sampleOf(agent.pid, begun);
    await client.close();
    const late = samples.slice(Math.floor(samples.length / 3));
    report('soak', {
      minutes: MINUTES,
      calls: work.calls,
      perSecond: Math.round(work.calls / (MINUTES * 60)),
      faults: happened,
      residentMib: [before.residentMib, ...late.map((each) => each.residentMib), after.residentMib]
        .map(Math.round)
        .join(' '),
      slopeMibPerHour: late.length > 2 ? slopeOf(late).toFixed(1) : 'too short',
      files: `${before.files} → ${after.files}`,
      threads: `${before.threads} → ${after.threads}`,
    });
    expect(work.wrong).toEqual([]);
    expect(after.files).toBeLessThanOrEqual(before.files + 1);
    expect(after.threads).toBeLessThanOrEqual(before.threads + 1);
    expect(agent.output()).not.toMatch(/"level":"error"/);
  });
});
