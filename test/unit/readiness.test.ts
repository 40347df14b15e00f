import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { isServing, Readiness, type ReadinessParts } from '../../src/agent/readiness.ts';
import type { BreakerState } from '../../src/custody/breaker.ts';

const NOT_YET = 'keystore and provider have not answered yet';
const ROOT_DOWN = 'the provider of the default root does not answer, or refuses';

/** Back ends whose answers a test sets, and which count how often they are asked. */
class BackEnds {
  now = 0;
  loaded = 0;
  asked = 0;
  root = 'one';
  keystoreOk = true;
  rootOk = true;
  breaker: BreakerState = 'closed';
  /** What a question waits for. */
  gate: Promise<void> | undefined;

  readiness(): Readiness {
    const health = async (ok: () => boolean) => {
      this.asked++;
      await this.gate;
      return { ok: ok(), detail: 'arn:aws:kms:eu-central-1:111122223333:key/1234 at https://kms.internal' };
    };
    const root = {
      health: () => health(() => this.rootOk),
      standing: () => ({ breaker: this.breaker }),
    };
    const custody = {
      keystore: { health: () => health(() => this.keystoreOk) },
    };
    Object.defineProperty(custody, 'defaultRoot', { get: () => ({ ...root, name: this.root }) });
    return new Readiness({
      custody: custody as unknown as ReadinessParts['custody'],
      keyring: { stats: () => ({ loaded: this.loaded }) },
      elapsedMs: () => this.now,
    });
  }
}

describe('Readiness', () => {
  it.for([
    [true, true, 0, true],
    [true, false, 0, false],
    [false, true, 0, false],
    [false, false, 0, false],
    [true, false, 1, true],
    [false, true, 1, true],
    [false, false, 1, true],
  ] as const)('keystore %s, root %s, %d keys loaded: %s', async ([keystoreOk, rootOk, loaded, ready]) => {
    const back = Object.assign(new BackEnds(), { keystoreOk, rootOk, loaded });
    expect((await back.readiness().verdict()).ready).toBe(ready);
    expect(isServing({ keystoreOk, rootOk, loadedKeys: loaded })).toBe(ready);
  });

  it('asks nobody while keys are loaded, and says when they serve alone', async () => {
    const back = Object.assign(new BackEnds(), { loaded: 3, rootOk: false });
    const readiness = back.readiness();
    for (back.now = 0; back.now < 3_600_000; back.now += 5_000) {
      expect(await readiness.verdict()).toEqual({ ready: true, reasons: [] });
    }
    back.breaker = 'open';
    expect(await readiness.verdict()).toEqual({
      ready: true,
      reasons: ['the provider of the default root does not answer; loaded keys serve'],
    });
    expect(back.asked).toBe(0);
  });

  it('asks both once for ten thousand probes, however many come at once', async () => {
    const back = new BackEnds();
    const readiness = back.readiness();
    await Promise.all(Array.from({ length: 5_000 }, () => readiness.verdict()));
    for (let probe = 0; probe < 5_000; probe++) {
      await readiness.verdict();
    }
    expect(back.asked).toBe(2);
  });

  it('asks an idle agent without keys again after two minutes, and one that is not ready after two seconds', async () => {
    const back = new BackEnds();
    const readiness = back.readiness();
    await readiness.verdict();
    back.now = 119_999;
    await readiness.verdict();
    expect(back.asked).toBe(2);
    back.now = 120_000;
    back.rootOk = false;
    // The question is under way; until it is answered the good answer stands.
    expect((await readiness.verdict()).ready).toBe(true);
    await sleep(1);
    expect(await readiness.verdict()).toEqual({ ready: false, reasons: [ROOT_DOWN] });
    expect(back.asked).toBe(4);
    back.rootOk = true;
    back.now += 1_999;
    expect((await readiness.verdict()).ready).toBe(false);
    back.now += 1;
    expect((await readiness.verdict()).ready).toBe(true);
    expect(back.asked).toBe(6);
  });

  it('answers within a second while nobody answers it, and uses the answer when it comes', async () => {
    const gate = Promise.withResolvers<void>();
    const back = Object.assign(new BackEnds(), { gate: gate.promise });
    const readiness = back.readiness();
    const begun = performance.now();
    expect(await readiness.verdict()).toEqual({ ready: false, reasons: [NOT_YET] });
    expect(performance.now() - begun).toBeLessThan(1_000);
    gate.resolve();
    expect(await readiness.verdict()).toEqual({ ready: true, reasons: [] });
    expect(back.asked).toBe(2);
  });

  it('does not take the answer of the former default root for that of the new one', async () => {
    const back = new BackEnds();
    const readiness = back.readiness();
    expect((await readiness.verdict()).ready).toBe(true);
    back.root = 'two';
    back.rootOk = false;
    expect((await readiness.verdict()).ready).toBe(false);
  });

  it('says nothing of what the back ends say of themselves', async () => {
    const back = Object.assign(new BackEnds(), { keystoreOk: false, rootOk: false });
    const { reasons } = await back.readiness().verdict();
    expect(reasons).toEqual(['the keystore does not answer', ROOT_DOWN]);
  });
});
