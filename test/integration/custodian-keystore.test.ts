/** Keystores in a process of their own: what goes wrong in it, and that nothing of keys is there. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import type { ServiceKeystoreConfig } from '../../src/config/config.ts';
import { NodeEngine } from '../../src/crypto/node.ts';
import { CustodianKeystore } from '../../src/custody/custodian-keystore.ts';
import { type CustodianTimes, Succession } from '../../src/custody/succession.ts';
import type { DekdError } from '../../src/errors.ts';
import { recordLike } from '../contract/keystore.contract.ts';
import { ROGUE, UNABLE, until } from '../support/custodian/acting-custody.ts';
import { descriptorsOf, isRunning } from '../support/processes.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

beforeEach(({ skip }) => {
  if (UNABLE !== undefined) {
    skip(UNABLE);
  }
});

interface Line {
  readonly custodians: Succession;
  readonly notices: string[];
}

function line(names: Readonly<Record<string, string>>, entry?: string, times?: Partial<CustodianTimes>): Line {
  const engine = new NodeEngine();
  const notices: string[] = [];
  // In configuration SQLite stays in the agent; a custodian opens whatever kind it is told.
  const keystores = Object.fromEntries(
    Object.entries(names).map(([name, path]) => [
      name,
      { kind: 'sqlite', path, acceptLoss: false } as unknown as ServiceKeystoreConfig,
    ]),
  );
  const notice = (text: string) => void notices.push(text);
  const custodians = new Succession({ engine, targets: { role: 'keystore', keystores }, notice, entry, times });
  onTestFinished(async () => {
    await custodians.close();
    engine.close();
  });
  return { custodians, notices };
}

describe('a keystore custodian', () => {
  it('holds several keystores, has no key pipe, and is gone when idle; the next call has the rows again', async () => {
    const folder = temporaryFolder();
    const { custodians } = line({ one: join(folder, 'one'), two: join(folder, 'two') }, undefined, { idle: 200 });
    const [one, two] = await Promise.all([
      CustodianKeystore.open('one', custodians),
      CustodianKeystore.open('two', custodians),
    ]);
    expect([one.kind, one.capabilities()]).toEqual(['sqlite', { durable: true, writable: true, watch: false }]);
    const record = recordLike({ name: 'a' });
    await one.store(record, { absent: true });
    const { pid } = custodians.standing;
    // It has pipes, of its event loop; none that the agent has an end of.
    const ours = new Set(descriptorsOf(process.pid).values());
    expect([...descriptorsOf(pid).values()].filter((each) => each.startsWith('pipe:') && ours.has(each))).toEqual([]);
    await until(() => !isRunning(pid), 3_000);
    expect(custodians.standing).toEqual({ role: 'keystore', pid: 0, started: 1, crashes: 0 });
    expect((await one.retrieve(record.kid))?.name).toBe('a');
    expect(await two.retrieve(record.kid)).toBeUndefined();
    expect(custodians.standing.started).toBe(2);
  });

  it('brings many rows in messages of moderate size, in their order', async () => {
    const { custodians } = line({ one: join(temporaryFolder(), 'one') });
    const keystore = await CustodianKeystore.open('one', custodians);
    const context = { note: 'x'.repeat(8_000) };
    for (let version = 1; version <= 300; version++) {
      await keystore.store(recordLike({ name: 'many', version, keyContext: context }), { absent: true });
    }
    const versions = await keystore.versions('many', '', 'seal');
    expect(versions.map(({ version }) => version)).toEqual(Array.from({ length: 300 }, (_, index) => index + 1));
    expect((await keystore.list({}, undefined, 300)).records).toHaveLength(300);
  });

  it('fails the call that meets a damaged row, and no other', async () => {
    const path = join(temporaryFolder(), 'one');
    const { custodians } = line({ one: path });
    const keystore = await CustodianKeystore.open('one', custodians);
    const [good, bad] = [recordLike({ name: 'good' }), recordLike({ name: 'bad' })];
    await keystore.store(good, { absent: true });
    await keystore.store(bad, { absent: true });
    const db = new DatabaseSync(path);
    db.exec(`UPDATE record SET algorithm = 'rot13' WHERE name = 'bad'`);
    db.close();
    const failure = (await keystore.retrieve(bad.kid).catch((error: unknown) => error)) as DekdError;
    expect(failure.code).toBe('KEYSTORE_UNAVAILABLE');
    expect((await keystore.retrieve(good.kid))?.name).toBe('good');
    expect(custodians.standing).toMatchObject({ started: 1, crashes: 0 });
  });

  it('says what stands in the way of opening, with the remedy', async () => {
    const file = join(temporaryFolder(), 'file');
    writeFileSync(file, '');
    const { custodians } = line({ one: join(file, 'keys') });
    const failure = (await CustodianKeystore.open('one', custodians).catch((error: unknown) => error)) as DekdError;
    expect(failure.code).toBe('KEYSTORE_UNAVAILABLE');
    expect(failure.message).toContain(file);
  });

  it.for([
    ['rows of no shape', /^keystore .*: a record whose \w+ is not /],
    ['a lease of no shape', /^keystore .*: bytes is not a text/],
    ['a value for a write', /has content$/],
    ['a failure of a provider', /a failure of no known code$/],
    ['a frame that nobody reads', /a login that nobody asked for$/],
    ['an end amid a call', /it ended with code 4$/],
  ] as const)('that answers with %s is ended, and its calls fail as those of a keystore', async ([act, why]) => {
    const { custodians, notices } = line({ [act]: '', silence: '', 'honest words': '' }, ROGUE);
    const keystore = await CustodianKeystore.open(act, custodians);
    const other = await CustodianKeystore.open('silence', custodians);
    const { pid } = custodians.standing;
    const kid = new Uint8Array(16);
    const waiting = other.retrieve(kid).catch((error: unknown) => error);
    const calls = {
      'a lease of no shape': () => keystore.leases(),
      'a value for a write': () => keystore.store(recordLike({}), { absent: true }),
    };
    const call = Object.hasOwn(calls, act) ? calls[act as keyof typeof calls]() : keystore.retrieve(kid);
    const failures = [await call.catch((error: unknown) => error), await waiting] as DekdError[];
    for (const { code, retryable, reason } of failures) {
      expect([code, retryable]).toEqual(['KEYSTORE_UNAVAILABLE', true]);
      expect(reason).toMatch(/^keystore /);
    }
    expect(failures[0]!.reason).toMatch(why);
    await until(() => !isRunning(pid), 2_000);
    expect(notices).toEqual([expect.stringMatching(/^the keystore custodian is lost: /)]);
    const honest = await CustodianKeystore.open('honest words', custodians);
    expect(await honest.leases()).toHaveLength(2);
    expect(await honest.health()).toEqual({ ok: true, detail: 'fine' });
    expect(custodians.standing).toMatchObject({ started: 2, crashes: 1 });
  });
});
