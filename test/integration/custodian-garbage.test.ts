/** Custodians that lie: whatever they say, their calls fail typed, they are ended, and nothing of it reaches the keys. */
import { beforeEach, describe, expect, it } from 'vitest';
import { providerCodeOf } from '../../src/custody/provider-failure.ts';
import type { DekdError } from '../../src/errors.ts';
import { openLine, ROGUE, UNABLE, until } from '../support/custodian/acting-custody.ts';
import { isRunning } from '../support/processes.ts';

const NEVER = new AbortController().signal;
const REFERENCE = { root: 'rogue', resolvedId: 'rogue:1', materialVersion: '1' };
const WRAPPED = new Uint8Array(60);
/** Memory that an agent may spend on what it refuses. */
const ROOM = 48 * 1024 * 1024;

beforeEach(({ skip }) => {
  if (UNABLE !== undefined) {
    skip(UNABLE);
  }
});

const LIES_TO_UNWRAP = [
  'no json',
  'json that is no object',
  'no kind',
  'ready again',
  'a head longer than its message',
  'a message without a head',
  'a message of 4 GiB',
  'a message over the limit',
  'an unknown call',
  'a call that is no number',
  'a negative call',
  'no frame',
  'a frame of 31 bytes',
  'a frame of 33 bytes',
  'half a frame',
  'the frame of another call',
  'a value where none is',
  'bytes where none are',
  'a failure of no known code',
  'a failure named after what objects have',
  'a failure without words',
  'a failure of endless words',
  'a failure to retry never',
  'a login without a frame',
  'a login for a root of no name',
  'a login of 4 GiB',
  'rows without end',
  'a flood',
  'the end of its channel',
];
const LIES_TO_WRAP = [
  'another root',
  'no reference',
  'no wrapped bytes',
  'wrapped bytes without end',
  'an id without end',
];

describe('a custodian that answers with', () => {
  it.for([
    ...LIES_TO_UNWRAP.map((act) => ['unwrap', act] as const),
    ...LIES_TO_WRAP.map((act) => ['wrap', act] as const),
  ])('(%s) %s is ended, and its calls fail', async ([operation, act]) => {
    await using line = openLine({ entry: ROGUE, roots: ['rogue'], times: { grace: 5_000 } });
    const { engine, provider, custodians, notices } = line;
    await provider.describe(NEVER);
    const { pid } = custodians.standing;
    const secret = engine.generateKey({ algorithm: 'hkdf-sha-256', purpose: 'wrap' });
    const used = engine.stats().used;
    const before = process.memoryUsage().rss;
    const other = provider.unwrap(WRAPPED, REFERENCE, {}, NEVER).catch((error: unknown) => error);
    const call =
      operation === 'wrap'
        ? provider.wrap(secret, { act }, NEVER)
        : provider.unwrap(WRAPPED, REFERENCE, { act }, NEVER);
    const failures = [await call.catch((error: unknown) => error), await other] as DekdError[];
    for (const failure of failures) {
      expect([failure.code, failure.retryable, providerCodeOf(failure)]).toEqual([
        'KMS_UNAVAILABLE',
        true,
        'UNAVAILABLE',
      ]);
    }
    expect(process.memoryUsage().rss - before).toBeLessThan(ROOM);
    expect(engine.stats().used).toBe(used);
    await until(() => !isRunning(pid), 2_000);
    expect(notices).toEqual([
      expect.stringMatching(
        /^the provider custodian is lost: (it sent garbage|its channel closed|it ended with code 1|.*key pipe)/,
      ),
    ]);
    const honest = await provider.unwrap(WRAPPED, REFERENCE, { act: 'honest' }, NEVER);
    engine.destroyKey(honest);
    const made = await provider.wrap(secret, { act: 'wrapped honestly' }, NEVER);
    expect(made.reference).toEqual(REFERENCE);
    expect(custodians.standing).toMatchObject({ started: 2, crashes: 1 });
  });

  it('the same answer twice is ended after the first, which stands', async () => {
    await using line = openLine({ entry: ROGUE, roots: ['rogue'] });
    const { engine, provider, custodians } = line;
    const key = await provider.unwrap(WRAPPED, REFERENCE, { act: 'the same answer twice' }, NEVER);
    engine.destroyKey(key);
    await until(() => custodians.standing.crashes === 1, 2_000);
  });
});

describe('a custodian that starts with', () => {
  it.for([
    ['never ready', 'it was not ready after 500 ms'],
    ['another role', 'it sent garbage: it did not say what it is'],
    ['another version', 'it sent garbage: it speaks version 999 and not 1: dekd was upgraded, start the agent anew'],
    ['a reply first', 'it sent garbage: it did not say what it is'],
    ['an end with words', 'it ended with code 9: cannot start: no such thing'],
  ] as const)('%s fails the calls that wait for it', async ([act, why]) => {
    // The others have the time that a process needs to start.
    await using line = openLine({
      entry: ROGUE,
      roots: ['early'],
      keys: [act],
      times: { start: act === 'never ready' ? 500 : 10_000 },
    });
    const failure = (await line.provider.describe(NEVER).catch((error: unknown) => error)) as DekdError;
    expect([failure.code, providerCodeOf(failure)]).toEqual(['KMS_UNAVAILABLE', 'UNAVAILABLE']);
    expect(failure.reason).toBe(`root early: describe lost its custodian (${why})`);
    expect(line.custodians.standing).toMatchObject({ pid: 0, started: 1, crashes: 1 });
  });

  it('no program at all fails them too', async () => {
    await using line = openLine({ entry: '/nonexistent/custodian.js' });
    const failure = (await line.provider.describe(NEVER).catch((error: unknown) => error)) as DekdError;
    expect(failure.code).toBe('KMS_UNAVAILABLE');
    expect(failure.reason).toMatch(/it ended with code 1: .*Cannot find module/s);
  });
});
