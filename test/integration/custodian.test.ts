/** Providers in a process of their own: what goes right, what goes wrong in it, and how long it lives. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import type { KeyHandle } from '../../src/crypto/engine.ts';
import { providerCodeOf } from '../../src/custody/provider-failure.ts';
import type { CustodianTimes } from '../../src/custody/succession.ts';
import { DekdError } from '../../src/errors.ts';
import type { KeyContext, WrappedSecret } from '../../src/providers/provider.ts';
import {
  ACTING,
  type ActingCustody,
  type ActingCustodyOptions,
  openActing,
  openLine,
  pidOf,
  UNABLE,
  until,
} from '../support/custodian/acting-custody.ts';
import { descriptorsOf, isRunning } from '../support/processes.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const CONTEXT: KeyContext = { tenant: 'acme' };
const CALLS = 1_000;
const NEVER = new AbortController().signal;
const HOST = fileURLToPath(new URL('../support/custodian/hosted-agent.ts', import.meta.url));

async function open(options: Partial<ActingCustodyOptions> = {}): Promise<ActingCustody> {
  const acting = await openActing({ entry: ACTING, ...options });
  onTestFinished(() => acting[Symbol.asyncDispose]());
  return acting;
}

function newSecret({ engine }: Pick<ActingCustody, 'engine'>): KeyHandle {
  return engine.generateKey({ algorithm: 'hkdf-sha-256', purpose: 'wrap' });
}

function wrap(acting: ActingCustody, context = CONTEXT): Promise<WrappedSecret> {
  return acting.custody.defaultRoot.wrap(newSecret(acting), context);
}

/** What a call of this context fails with. */
async function failureOf(acting: ActingCustody, context: KeyContext): Promise<DekdError> {
  const { defaultRoot } = acting.custody;
  const error: unknown = await defaultRoot.wrap(newSecret(acting), context).then(
    () => undefined,
    (failure: unknown) => failure,
  );
  expect(error).toBeInstanceOf(DekdError);
  return error as DekdError;
}

beforeEach(({ skip }) => {
  if (UNABLE !== undefined) {
    skip(UNABLE);
  }
});

describe('a provider custodian', () => {
  it('wraps and unwraps to the same key, and brings descriptions, warnings, health and direct mode', async () => {
    const acting = await open();
    const { engine, custody, notices } = acting;
    const { defaultRoot: root } = custody;
    expect(root.description).toMatchObject({ kind: 'acting', resolvedId: expect.stringMatching(/^acting:/) });
    expect(root.capabilities).toEqual({ nativeContext: true, serverRewrap: true, directLimit: 4_096, versioned: true });
    expect(notices).toEqual(['root acting: it acts']);
    const secret = newSecret(acting);
    const { wrapped, reference } = await root.wrap(secret, CONTEXT);
    const again = await root.unwrap(wrapped, reference, CONTEXT);
    expect(engine.kid(again)).toEqual(engine.kid(secret));
    const moved = await root.rewrap(wrapped, reference, CONTEXT);
    expect(moved.wrapped).not.toEqual(wrapped);
    expect(engine.kid(await root.unwrap(moved.wrapped, moved.reference, CONTEXT))).toEqual(engine.kid(secret));
    const direct = await root.encrypt(Buffer.from('4111'), CONTEXT);
    expect(Buffer.from(await root.decrypt(direct.wrapped, direct.reference, CONTEXT)).toString()).toBe('4111');
    expect(await root.health('deep')).toEqual({ ok: true, detail: 'deep' });
    await expect(root.unwrap(wrapped, reference, { tenant: 'other' })).rejects.toMatchObject({
      code: 'DECRYPTION_FAILED',
    });
  });

  it('brings with an illness what a call would fail with, and is ended for one that nobody knows', async () => {
    const acting = await open();
    const { defaultRoot: root } = acting.custody;
    await wrap(acting, { act: 'sicken', illness: 'KEY_DISABLED' });
    expect(await root.health('cheap')).toEqual({ ok: false, detail: 'ill', code: 'KEY_DISABLED' });
    await wrap(acting, { act: 'sicken', illness: 'toString' });
    expect(await root.health('cheap')).toMatchObject({
      code: 'UNAVAILABLE',
      detail: expect.stringContaining('lost its custodian (a failure of no known code)'),
    });
  });

  it(`gives each of ${CALLS} concurrent calls its own key, whatever order they are answered in`, async () => {
    const acting = await open();
    const { engine, custody } = acting;
    const secrets = Array.from({ length: 200 }, () => newSecret(acting));
    const kids = secrets.map((secret) => Buffer.from(engine.kid(secret)).toString('hex'));
    const used = engine.stats().used;
    const order: number[] = [];
    await Promise.all(
      Array.from({ length: CALLS }, async (_, index) => {
        const which = index % secrets.length;
        // Later ones are answered sooner, while wraps and unwraps of others are on the pipes.
        const context = { tenant: String(index), ms: String((CALLS - index) % 7) };
        const { wrapped, reference } = await custody.defaultRoot.wrap(secrets[which]!, context);
        const again = await custody.defaultRoot.unwrap(wrapped, reference, context);
        order.push(index);
        expect(Buffer.from(engine.kid(again)).toString('hex')).toBe(kids[which]);
        engine.destroyKey(again);
      }),
    );
    expect(order).not.toEqual([...order].sort((a, b) => a - b));
    expect(engine.stats().used).toBe(used);
    expect(custody.custodians()).toEqual([{ role: 'provider', pid: pidOf(acting), started: 1, crashes: 0 }]);
  });

  it('loses one call, and no other, when there is no slot for its key', async () => {
    const acting = await open();
    const { engine, custody } = acting;
    const { wrapped, reference } = await wrap(acting);
    const others: KeyHandle[] = [];
    while (engine.stats().used < engine.stats().capacity) {
      others.push(newSecret(acting));
    }
    await expect(custody.defaultRoot.unwrap(wrapped, reference, CONTEXT)).rejects.toMatchObject({
      code: 'RESOURCE_EXHAUSTED',
    });
    engine.destroyKey(others[0]!);
    await custody.defaultRoot.unwrap(wrapped, reference, CONTEXT);
    expect(custody.custodians()[0]).toMatchObject({ started: 1, crashes: 0 });
  });

  it('passes on every failure of a provider, and of a defect nothing but that it is one', async () => {
    const acting = await open();
    const disabled = await failureOf(acting, { act: 'disabled' });
    expect([disabled.code, providerCodeOf(disabled)]).toEqual(['KMS_DENIED', 'KEY_DISABLED']);
    expect(disabled.reason).toBe('root acting: the key is disabled (KMSDisabled)');
    const throttled = await failureOf(acting, { act: 'throttle' });
    expect([throttled.code, throttled.retryAfterMs]).toEqual(['KMS_UNAVAILABLE', 1_235]);
    const defect = await failureOf(acting, { act: 'defect' });
    expect(defect.code).toBe('INTERNAL');
    expect(defect.reason).toBe('root acting: wrap failed in its custodian (TypeError)');
    const { wrapped, reference } = await acting.custody.defaultRoot.wrap(newSecret(acting), { act: 'short' });
    await expect(acting.custody.defaultRoot.unwrap(wrapped, reference, { act: 'short' })).rejects.toMatchObject({
      code: 'DECRYPTION_FAILED',
      reason: 'root acting unwrapped 31 bytes, not 32',
    });
    expect(acting.custody.custodians()[0]).toMatchObject({ started: 1, crashes: 0 });
  });

  it.for([
    ['exits', 'exit', /it ended with code 3\)?$/],
    ['is killed', 'die', /it ended by SIGKILL\)?$/],
    ['leaves a rejection unhandled', 'reject', /it ended with code 70\)?$/],
    ['runs out of memory', 'memory', /it ended by SIG(ABRT|TRAP)\)?$/],
  ] as const)('that %s fails its calls with a typed error, and the next call starts another', async ([, act, why]) => {
    const acting = await open({ timeoutMs: 20_000 });
    const { wrapped, reference } = await wrap(acting);
    const first = pidOf(acting);
    const [failure, other] = await Promise.all([failureOf(acting, { act }), failureOf(acting, { act: 'deaf' })]);
    for (const { code, retryable, reason } of [failure, other]) {
      expect([code, retryable]).toEqual(['KMS_UNAVAILABLE', true]);
      expect(reason).toMatch(why);
      expect(reason).not.toContain('secret text');
    }
    expect(providerCodeOf(failure)).toBe('UNAVAILABLE');
    expect(isRunning(first)).toBe(false);
    await acting.custody.defaultRoot.unwrap(wrapped, reference, CONTEXT);
    expect(acting.custody.custodians()[0]).toMatchObject({ started: 2, crashes: 1 });
    expect(acting.notices.at(-1)).toMatch(why);
  });

  it('that works on a call forever loses that call alone when it hears of the deadline', async () => {
    await using line = openLine({ entry: ACTING });
    const { provider, custodians } = line;
    await provider.describe(NEVER);
    const slow = provider.wrap(newSecret(line), { ms: '60000' }, AbortSignal.timeout(200));
    await provider.wrap(newSecret(line), CONTEXT, NEVER);
    const failure: unknown = await slow.catch((error: unknown) => error);
    expect([(failure as DekdError).code, providerCodeOf(failure)]).toEqual(['KMS_UNAVAILABLE', 'TIMEOUT']);
    await sleep(100);
    await provider.wrap(newSecret(line), CONTEXT, NEVER);
    expect(custodians.standing).toMatchObject({ started: 1, crashes: 0 });
  });

  it.for(['deaf', 'spin'])(
    'that hangs (%s) is killed a moment after the deadline, and others hear of it',
    async (act) => {
      await using line = openLine({ entry: ACTING, times: { grace: 300 } });
      const { provider, custodians } = line;
      await provider.describe(NEVER);
      const first = custodians.standing.pid;
      const begun = performance.now();
      const hung = provider.wrap(newSecret(line), { act }, AbortSignal.timeout(200)).catch((error: unknown) => error);
      const other = provider.wrap(newSecret(line), { act }, NEVER).catch((error: unknown) => error);
      expect(providerCodeOf(await hung)).toBe('TIMEOUT');
      expect(performance.now() - begun).toBeLessThan(450);
      const failure = (await other) as DekdError;
      expect([failure.code, providerCodeOf(failure)]).toEqual(['KMS_UNAVAILABLE', 'UNAVAILABLE']);
      expect(failure.reason).toContain('it did not answer 300 ms after the deadline');
      await until(() => !isRunning(first), 1_000);
      await provider.wrap(newSecret(line), CONTEXT, NEVER);
      expect(custodians.standing).toMatchObject({ started: 2, crashes: 1 });
    },
  );

  it('takes the secret of a call that was given up off the pipe, so that the next one gets its own', async () => {
    await using line = openLine({ entry: ACTING });
    const { engine, provider, custodians } = line;
    const secret = newSecret(line);
    const { wrapped, reference } = await provider.wrap(secret, { ms: '20' }, NEVER);
    const used = engine.stats().used;
    // The answers are under way when the calls are given up.
    const calls = Array.from({ length: 40 }, (_, index) =>
      provider.unwrap(wrapped, reference, { ms: '20' }, AbortSignal.timeout(index)),
    );
    const outcomes = await Promise.allSettled(calls);
    const failures = outcomes.flatMap((each) => (each.status === 'rejected' ? [providerCodeOf(each.reason)] : []));
    expect(failures.length).toBeGreaterThan(0);
    expect(new Set(failures)).toEqual(new Set(['TIMEOUT']));
    for (const outcome of outcomes) {
      if (outcome.status === 'fulfilled') {
        engine.destroyKey(outcome.value);
      }
    }
    const again = await provider.unwrap(wrapped, reference, { ms: '20' }, NEVER);
    expect(engine.kid(again)).toEqual(engine.kid(secret));
    engine.destroyKey(again);
    expect(engine.stats().used).toBe(used);
    expect(custodians.standing).toMatchObject({ started: 1, crashes: 0 });
  });

  it('has at most 64 calls at once, and those that wait for a place do so within their deadlines', async () => {
    await using line = openLine({ entry: ACTING });
    const { provider, custodians } = line;
    await provider.describe(NEVER);
    const controller = new AbortController();
    const slow = Array.from({ length: 64 }, () => provider.wrap(newSecret(line), { ms: '300' }, NEVER));
    const cancelled = provider.wrap(newSecret(line), CONTEXT, controller.signal);
    const late = provider.wrap(newSecret(line), CONTEXT, AbortSignal.timeout(100));
    const patient = provider.wrap(newSecret(line), CONTEXT, NEVER);
    controller.abort();
    expect(providerCodeOf(await cancelled.catch((error: unknown) => error))).toBe('CANCELLED');
    expect(providerCodeOf(await late.catch((error: unknown) => error))).toBe('TIMEOUT');
    await Promise.all([...slow, patient]);
    expect(custodians.standing).toMatchObject({ started: 1, crashes: 0 });
  });

  it('can be begun before there is a call, which hears of it when that did not work', async () => {
    await using line = openLine({ entry: ACTING });
    line.custodians.begin();
    line.custodians.begin();
    await until(() => line.custodians.standing.pid > 0, 5_000);
    await line.provider.describe(NEVER);
    expect(line.custodians.standing).toMatchObject({ started: 1, crashes: 0 });
    await using broken = openLine({ entry: '/nonexistent.js' });
    broken.custodians.begin();
    await until(() => broken.custodians.standing.crashes === 1, 5_000);
    await expect(broken.provider.describe(NEVER)).rejects.toMatchObject({ code: 'KMS_UNAVAILABLE' });
    expect(broken.custodians.standing.started).toBe(2);
  });

  it('is started once for many calls, and after faults later and later; an answer makes up for them', async () => {
    await using line = openLine({ entry: ACTING, times: { grace: 100 } });
    const { provider, custodians } = line;
    await Promise.all(Array.from({ length: 20 }, () => provider.describe(NEVER)));
    expect(custodians.standing.started).toBe(1);
    const die = () => provider.wrap(newSecret(line), { act: 'die' }, NEVER).catch(() => performance.now());
    const gaps: number[] = [];
    for (let round = 0; round < 3; round++) {
      await die();
      const begun = performance.now();
      await die();
      gaps.push(performance.now() - begun);
    }
    // 50 to 100 ms, 200 to 400, and then longer than a call waits.
    const refused: unknown = await provider.describe(NEVER).catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: 'KMS_UNAVAILABLE', retryAfterMs: expect.any(Number) });
    const { retryAfterMs } = refused as DekdError;
    expect(retryAfterMs).toBeGreaterThan(1_000);
    expect(retryAfterMs).toBeLessThanOrEqual(3_200);
    expect(gaps[1]!).toBeGreaterThan(gaps[0]!);
    await sleep(retryAfterMs!);
    await provider.describe(NEVER);
    await die();
    const begun = performance.now();
    await provider.describe(NEVER);
    expect(performance.now() - begun).toBeLessThan(900);
  });

  it('outlives what ends the agent in due course, and says nothing of itself to other programs', async () => {
    process.env.NODE_OPTIONS = '--no-warnings';
    process.env.DEKD_SOCKET = '/nowhere';
    process.env.AWS_PROFILE = 'acting';
    onTestFinished(() => {
      delete process.env.NODE_OPTIONS;
      delete process.env.DEKD_SOCKET;
      delete process.env.AWS_PROFILE;
    });
    await using acting = await openActing({ entry: ACTING });
    const pid = pidOf(acting);
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR1'] as const) {
      process.kill(pid, signal);
    }
    await wrap(acting);
    expect(pidOf(acting)).toBe(pid);
    const read = (name: string) => readFileSync(`/proc/${pid}/${name}`, 'utf8');
    const words = read('cmdline').split('\0').slice(0, -1);
    expect(words.slice(0, 2)).toEqual([process.execPath, '--disable-sigusr1']);
    // Nothing of the configuration: any user reads a command line.
    expect(words.slice(2).filter((word) => !/^--[a-z-]+(=\d+)?$/.test(word))).toEqual([ACTING, 'provider']);
    expect(read('limits')).toMatch(/^Max core file size\s+0\s+0\s/m);
    // Root's, since it is not dumpable: no other process of this uid reads its memory.
    expect(statSync(`/proc/${pid}/mem`).uid).toBe(0);
    if (process.getuid!() === 0) {
      const names = read('environ')
        .split('\0')
        .map((line) => line.split('=')[0]);
      expect(names).toContain('AWS_PROFILE');
      expect(names.filter((name) => /^(NODE_(?!EXTRA_CA_CERTS)|DEKD_|LD_PRELOAD)/.test(name!))).toEqual([]);
      const [stdin, stdout, stderr, channel, fromAgent, toAgent] = [0, 1, 2, 3, 4, 5].map((fd) =>
        descriptorsOf(pid)
          .get(fd)
          ?.replace(/\[\d+\]/, ''),
      );
      expect([stdin, stdout, stderr, channel]).toEqual(['/dev/null', '/dev/null', 'socket:', 'socket:']);
      expect([fromAgent, toAgent]).toEqual(['pipe:', 'pipe:']);
    }
  });

  it('inherits nothing that the agent was started with, a root key for one', async () => {
    const key = join(temporaryFolder(), 'root.key');
    writeFileSync(key, 'secret');
    for (const fd of [7, 30]) {
      const agent = await hostedAgent(false, {}, ['bash', '-c', `exec "$@" ${fd}<"$0"`, key]);
      expect(descriptorsOf(agent.pid).get(fd)).toBe(key);
      expect([...descriptorsOf(agent.custodian).values()]).not.toContain(key);
    }
  });

  it('leaves no descriptor of a dead custodian in the agent', async () => {
    await using line = openLine({ entry: ACTING });
    const { provider } = line;
    await provider.describe(NEVER);
    const before = descriptorsOf(process.pid).size;
    for (let round = 0; round < 2; round++) {
      await provider.wrap(newSecret(line), { act: 'die' }, NEVER).catch(() => undefined);
      await provider.describe(NEVER);
    }
    await until(() => descriptorsOf(process.pid).size <= before, 1_000);
  });
});

describe('the life of custodians', () => {
  it('ends when there was no call for a while, and the next call begins another', async () => {
    const acting = await open({ times: { idle: 200 } });
    const first = pidOf(acting);
    const { wrapped, reference } = await wrap(acting);
    await until(() => !isRunning(first), 3_000);
    expect(acting.custody.custodians()).toEqual([{ role: 'provider', pid: 0, started: 1, crashes: 0 }]);
    await acting.custody.defaultRoot.unwrap(wrapped, reference, CONTEXT);
    expect(pidOf(acting)).not.toBe(first);
    expect(acting.custody.custodians()[0]).toMatchObject({ started: 2, crashes: 0 });
  });

  it('is over a set time after the first plaintext, busy or not, and no call fails for it', async () => {
    const life = 3_000;
    const acting = await open({ times: { life } });
    const { defaultRoot: root } = acting.custody;
    const secret = newSecret(acting);
    const { wrapped, reference } = await root.wrap(secret, { ms: '5' });
    const kid = acting.engine.kid(secret);
    const seen = new Map<number, number>();
    const begun = performance.now();
    let calls = 0;
    const watch = setInterval(() => {
      const pid = pidOf(acting);
      if (pid !== 0 && !seen.has(pid)) {
        seen.set(pid, performance.now());
      }
    }, 5);
    await Promise.all(
      Array.from({ length: 8 }, async () => {
        while (performance.now() - begun < 6_500) {
          const again = await root.unwrap(wrapped, reference, { ms: '5' });
          expect(acting.engine.kid(again)).toEqual(kid);
          acting.engine.destroyKey(again);
          const { reference: made } = await root.wrap(secret, { ms: '5' });
          expect(made.root).toBe('acting');
          calls++;
        }
      }),
    );
    clearInterval(watch);
    expect(calls).toBeGreaterThan(100);
    expect(seen.size).toBeGreaterThanOrEqual(3);
    expect(acting.custody.custodians()[0]!.crashes).toBe(0);
    expect(acting.notices).toEqual(['root acting: it acts']);
    const pids = [...seen.keys()];
    // All but the last, whose time is not over yet.
    for (const pid of pids.slice(0, -1)) {
      await until(() => !isRunning(pid), life - (performance.now() - seen.get(pid)!) + 500);
    }
  });

  it('ends on time with calls that take longer, which fail typed', async () => {
    const acting = await open({ times: { life: 600 } });
    await wrap(acting);
    const first = pidOf(acting);
    const failure = await failureOf(acting, { ms: '5000' });
    expect([failure.code, providerCodeOf(failure)]).toEqual(['KMS_UNAVAILABLE', 'UNAVAILABLE']);
    expect(failure.reason).toContain('its time was over');
    await until(() => !isRunning(first), 500);
    await wrap(acting);
    expect(acting.custody.custodians()[0]!.crashes).toBe(0);
  });

  it('ends by the limit that a custodian keeps itself, when the agent does not', async () => {
    const agent = await hostedAgent(false, { life: 400, margin: 400 });
    process.kill(agent.pid, 'SIGSTOP');
    expect(await until(() => !isRunning(agent.custodian), 3_000)).toBeGreaterThan(400);
  });

  it('ends in less than a second when the agent is killed, idle or amid calls', async () => {
    for (const busy of [false, true]) {
      const agent = await hostedAgent(busy, {});
      expect(isRunning(agent.custodian)).toBe(true);
      process.kill(agent.pid, 'SIGKILL');
      await until(() => !isRunning(agent.custodian), 1_000);
    }
  });

  it('ends with the custody, one that hangs included', async () => {
    const acting = await open({ times: { end: 300 } });
    const pid = pidOf(acting);
    void failureOf(acting, { act: 'spin' });
    await sleep(50);
    await acting.custody.close();
    expect(isRunning(pid)).toBe(false);
    await expect(acting.custody.defaultRoot.wrap(newSecret(acting), CONTEXT)).rejects.toMatchObject({
      code: 'KMS_UNAVAILABLE',
    });
  });
});

describe('the login of a root', () => {
  const events = (notes: string) => readFileSync(notes, 'utf8').trimEnd().split('\n');

  it('goes from custodian to custodian through the key table, and ends with the custody', async () => {
    const notes = join(temporaryFolder(), 'notes');
    const acting = await open({ notes, times: { idle: 150 } });
    const { defaultRoot: root } = acting.custody;
    for (let round = 0; round < 2; round++) {
      const pid = pidOf(acting);
      await until(() => !isRunning(pid), 3_000);
      await root.wrap(newSecret(acting), CONTEXT);
    }
    // One that was idle when the custody closes: it is started once more, to log out.
    const last = pidOf(acting);
    await until(() => !isRunning(last), 3_000);
    await acting.custody.close();
    const login = events(notes)[0]!.replace('login ', '');
    expect(events(notes)).toEqual([
      `login ${login}`,
      `left ${login}`,
      `resumed ${login}`,
      `left ${login}`,
      `resumed ${login}`,
      `left ${login}`,
      `resumed ${login}`,
      `logout ${login}`,
    ]);
    expect(login).toMatch(/^session-/);
  });

  it('is the newest that any custodian has, one each root', async () => {
    const notes = join(temporaryFolder(), 'notes');
    const acting = await open({ notes, roots: ['one', 'two'], times: { idle: 150 } });
    const { roots } = acting.custody;
    await roots.get('one')!.wrap(newSecret(acting), { act: 'relogin' });
    const before = events(notes);
    const [, two] = before.filter((line) => line.startsWith('login'));
    const pid = pidOf(acting);
    await until(() => !isRunning(pid), 3_000);
    await roots.get('two')!.wrap(newSecret(acting), CONTEXT);
    await roots.get('one')!.wrap(newSecret(acting), CONTEXT);
    const after = events(notes).filter((line) => line.startsWith('resumed'));
    expect(after).toEqual([two, before.at(-1)].map((line) => line!.replace('login', 'resumed')));
  });

  it('is made anew, and the custodian with it, when the root is cleared; other roots keep theirs', async () => {
    const notes = join(temporaryFolder(), 'notes');
    const acting = await open({ notes, roots: ['one', 'two'] });
    const pid = pidOf(acting);
    const [one, two] = events(notes).map((line) => line.replace('login ', ''));
    await acting.custody.clear('one');
    expect(isRunning(pid)).toBe(false);
    for (const root of acting.custody.roots.values()) {
      await root.wrap(newSecret(acting), CONTEXT);
    }
    const rest = events(notes).slice(2);
    expect(rest.slice(0, 2).toSorted()).toEqual([`left ${two}`, `logout ${one}`]);
    expect(rest[2]).toMatch(/^login session-/);
    expect(rest[2]).not.toContain(one);
    expect(rest[3]).toBe(`resumed ${two}`);
    await expect(acting.custody.clear('three')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  it('that is too long to be handed on leaves the one before it in its place', async () => {
    const notes = join(temporaryFolder(), 'notes');
    const acting = await open({ notes, times: { idle: 150 } });
    await acting.custody.defaultRoot.wrap(newSecret(acting), { act: 'long-session' });
    const pid = pidOf(acting);
    await until(() => !isRunning(pid), 3_000);
    await wrap(acting);
    expect(events(notes)[2]).toBe(events(notes)[0]!.replace('login', 'resumed'));
    expect(acting.custody.custodians()[0]!.crashes).toBe(0);
  });
});

interface HostedAgent {
  readonly pid: number;
  readonly custodian: number;
}

/** An agent of nothing but custody, in a process of its own: one that a test can kill. */
async function hostedAgent(
  busy: boolean,
  times: Partial<CustodianTimes>,
  wrapper: readonly string[] = [],
): Promise<HostedAgent> {
  const [program, ...args] = [...wrapper, process.execPath, HOST, JSON.stringify({ busy, times })];
  const child = spawn(program!, args, {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
  return { pid: child.pid!, custodian: Number(line) };
}
