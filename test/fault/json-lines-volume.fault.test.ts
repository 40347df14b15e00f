import { createReadStream, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AgentProcess, quantile, report, runDekd } from './support/agent-process.ts';
import { PrivatePackage } from './support/private-package.ts';
import { plainRecord, variedRecord, writeRecords } from './support/record-file.ts';

const RECORDS = Number(process.env.DEKD_RECORDS ?? 100_000);
const RUNS = 3;

interface Summary {
  readonly records: number;
  readonly values: number;
  readonly seconds: number;
  readonly recordsPerSecond: number;
}

describe(`${RECORDS.toLocaleString('en')} records through the command line`, () => {
  let built: PrivatePackage;
  let folder: string;
  let agent: AgentProcess;

  beforeAll(async () => {
    built = new PrivatePackage();
    folder = mkdtempSync(join(tmpdir(), 'dekd-lines-'));
    agent = await AgentProcess.start({ package: built, folder, env: { DEKD_ENGINE: 'auto' } });
  });
  afterAll(async () => {
    await agent?.stop();
    built[Symbol.dispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  async function convert(
    verb: string,
    fields: string,
    from: string,
    to: string,
  ): Promise<Summary & { wallMs: number }> {
    const options = ['--json', '--socket', agent.socket, '--key', 'customers', '--partition', 'acme'];
    const result = await runDekd(built, [verb, ...options, '--fields', fields, '-i', from, '-o', to]);
    expect(result.stderr).toBe('');
    expect(result.code).toBe(0);
    return { ...(JSON.parse(result.stdout) as Summary), wallMs: result.ms };
  }

  it('comes back byte for byte, whatever the records look like', async () => {
    const [input, sealed, back] = ['in', 'sealed', 'back'].map((name) => join(folder, `varied-${name}.jsonl`));
    const fields = 'email,address.street,cards[].pan,extra,price';
    writeRecords(input!, RECORDS, variedRecord);
    const there = await convert('encrypt', fields, input!, sealed!);
    const again = await convert('decrypt', fields, sealed!, back!);
    expect(there.records).toBe(RECORDS);
    expect(again.values).toBe(there.values);
    expect(readFileSync(back!).equals(readFileSync(input!))).toBe(true);
    expect(await clearRecords(sealed!)).toBe(0);
    report('JSON Lines, five fields', {
      bytes: statSync(input!).size,
      values: there.values,
      encryptPerSecond: there.recordsPerSecond,
      decryptPerSecond: again.recordsPerSecond,
    });
  });

  it('comes back with one field, and how fast', async () => {
    const [input, sealed, back] = ['in', 'sealed', 'back'].map((name) => join(folder, `plain-${name}.jsonl`));
    writeRecords(input!, RECORDS, plainRecord);
    const encrypted: (Summary & { wallMs: number })[] = [];
    const decrypted: (Summary & { wallMs: number })[] = [];
    for (let run = 0; run < RUNS; run++) {
      encrypted.push(await convert('encrypt', 'email', input!, sealed!));
      decrypted.push(await convert('decrypt', 'email', sealed!, back!));
      expect(readFileSync(back!).equals(readFileSync(input!))).toBe(true);
    }
    const figures = (runs: typeof encrypted) => ({
      perSecond: quantile(
        runs.map((run) => run.recordsPerSecond),
        0.5,
      ),
      perSecondWithStart: Math.round(
        RECORDS /
          (quantile(
            runs.map((run) => run.wallMs),
            0.5,
          ) /
            1000),
      ),
    });
    report('JSON Lines, one field (bar 100,000 records/s)', {
      encrypt: figures(encrypted),
      decrypt: figures(decrypted),
    });
  });
});

/** Records in which an e-mail address can still be read. */
async function clearRecords(path: string): Promise<number> {
  let found = 0;
  for await (const line of createInterface({ input: createReadStream(path) })) {
    found += line.includes('@example.org') ? 1 : 0;
  }
  return found;
}
