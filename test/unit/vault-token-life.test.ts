import { describe, expect, it } from 'vitest';
import type { Grant, Login } from '../../src/vault/login.ts';
import type { Lease } from '../../src/vault/session.ts';
import { TokenLife } from '../../src/vault/token-life.ts';
import { VaultError } from '../../src/vault/vault-error.ts';
import { ManualClock } from '../support/vault-server/manual-clock.ts';

const HOUR = 3600_000;
const SIGNAL = new AbortController().signal;
const gaveUp = () => new VaultError('CANCELLED', 'gave up');

interface Behaviour {
  grant?: Partial<Grant>;
  makesTokens?: boolean;
  /** What each renewal answers, in order; the last one stays. */
  renewals?: (number | VaultError)[];
  live?: boolean;
}

/** A token life over a login and a Vault that do as told. */
function lifeOf(behaviour: Behaviour = {}) {
  const clock = new ManualClock();
  const seen = { logins: 0, renewals: [] as number[], revoked: [] as string[], kept: 0, lookups: 0 };
  const control = { failLogin: undefined as VaultError | undefined, live: behaviour.live ?? true };
  const login = {
    makesTokens: behaviour.makesTokens ?? true,
    unwrapped: undefined,
    logIn: async (): Promise<Grant> => {
      seen.logins += 1;
      await Promise.resolve();
      if (control.failLogin !== undefined) {
        throw control.failLogin;
      }
      return {
        token: `t${seen.logins}`,
        ttlMs: HOUR,
        renewable: true,
        uses: Number.POSITIVE_INFINITY,
        revocable: true,
        ...behaviour.grant,
      };
    },
  } as unknown as Login;
  const renewals = [...(behaviour.renewals ?? [HOUR])];
  const life = new TokenLife({
    login,
    calls: {
      lookup: async () => {
        seen.lookups += 1;
        await Promise.resolve();
        return control.live;
      },
      renew: async () => {
        seen.renewals.push(clock.now());
        const next = renewals.length > 1 ? renewals.shift()! : renewals[0]!;
        if (next instanceof VaultError) {
          throw next;
        }
        return { ttlMs: next, renewable: true };
      },
      revoke: async (token) => {
        seen.revoked.push(token);
      },
    },
    clock,
    random: () => 0.5,
    timeoutMs: 3000,
    place: 'vault:8200',
    onChange: () => {
      seen.kept += 1;
    },
  });
  return { life, clock, seen, control, acquire: () => life.acquire(SIGNAL, gaveUp) };
}

describe('TokenLife', () => {
  it('logs in once for a thousand requests that come at once', async () => {
    const { acquire, seen } = lifeOf();
    const leases = await Promise.all(Array.from({ length: 1000 }, acquire));
    expect(new Set(leases.map(({ token }) => token))).toEqual(new Set(['t1']));
    expect(seen.logins).toBe(1);
  });

  it('renews at about two thirds of the lease, again and again, without another login', async () => {
    const { acquire, clock, seen } = lifeOf();
    await acquire();
    await clock.advance(0.6 * HOUR - 1);
    expect(seen.renewals).toEqual([]);
    await clock.advance(24 * HOUR);
    expect(seen.renewals[0]! / HOUR).toBeCloseTo(0.65, 5);
    expect(seen.renewals.length).toBeGreaterThanOrEqual(35);
    expect(seen.renewals.length).toBeLessThanOrEqual(38);
    expect(seen.logins).toBe(1);
    expect((await acquire()).token).toBe('t1');
  });

  it('logs in again in good time when a renewal grants less than the login did, and revokes the old token', async () => {
    const { acquire, clock, seen } = lifeOf({ renewals: [0.5 * HOUR] });
    await acquire();
    await clock.advance(0.66 * HOUR);
    expect(seen.renewals.length).toBe(1);
    await clock.advance(0.2 * HOUR);
    expect(seen.logins).toBe(2);
    expect((await acquire()).token).toBe('t2');
    await clock.advance(5000);
    expect(seen.revoked).toEqual(['t1']);
  });

  it('goes on with the token while renewals fail, trying less and less often, until the lease ends', async () => {
    const { acquire, clock, seen } = lifeOf({ renewals: [new VaultError('UNAVAILABLE', 'down')] });
    await acquire();
    await clock.advance(0.99 * HOUR);
    expect((await acquire()).token).toBe('t1');
    expect(seen.logins).toBe(1);
    const pauses = seen.renewals.slice(1).map((at, index) => at - seen.renewals[index]!);
    expect(pauses[0]).toBeGreaterThanOrEqual(500);
    expect(pauses[0]).toBeLessThanOrEqual(1000);
    expect(Math.max(...pauses)).toBeLessThanOrEqual(5 * 60_000);
    expect(Math.max(...pauses)).toBeGreaterThan(2 * 60_000);
    await clock.advance(0.02 * HOUR);
    expect((await acquire()).token).toBe('t2');
  });

  it('replaces a token that may not renew itself instead of renewing it', async () => {
    const { acquire, clock, seen } = lifeOf({ renewals: [new VaultError('FORBIDDEN', 'no')] });
    await acquire();
    await clock.advance(0.99 * HOUR);
    expect(seen.renewals.length).toBe(1);
    expect(seen.logins).toBe(2);
  });

  it('replaces a batch token before its end, and revokes none', async () => {
    const { acquire, clock, seen, life } = lifeOf({ grant: { renewable: false, revocable: false } });
    await acquire();
    await clock.advance(0.9 * HOUR);
    expect(seen.renewals).toEqual([]);
    expect(seen.logins).toBe(2);
    await life.close(false);
    expect(seen.revoked).toEqual([]);
  });

  it('counts the uses of a token that has few, and never spends one on renewal', async () => {
    const { acquire, clock, seen } = lifeOf({ grant: { uses: 2 } });
    const tokens = (await Promise.all(Array.from({ length: 6 }, acquire))).map(({ token }) => token);
    expect(tokens.sort()).toEqual(['t1', 't1', 't2', 't2', 't3', 't3']);
    await clock.advance(HOUR);
    expect(seen.renewals).toEqual([]);
  });

  it('never gives a token a timer that does not fit: a lease of 768 hours is renewed after 499 of them', async () => {
    const { acquire, clock, seen } = lifeOf({ grant: { ttlMs: 768 * HOUR }, renewals: [768 * HOUR] });
    await acquire();
    await clock.advance(768 * HOUR * 0.6);
    expect(seen.renewals).toEqual([]);
    await clock.advance(768 * HOUR * 0.1);
    expect(seen.renewals.length).toBe(1);
  });

  it('asks for a refused login again only after pauses that grow to half a minute', async () => {
    const { acquire, clock, seen, control } = lifeOf();
    control.failLogin = new VaultError('UNAUTHENTICATED', 'refused');
    for (let second = 0; second < 120; second++) {
      await expect(acquire()).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
      await clock.advance(1000);
    }
    expect(seen.logins).toBeLessThanOrEqual(9);
    control.failLogin = undefined;
    await clock.advance(30_000);
    expect((await acquire()).token).toMatch(/^t/);
  });

  it('tries a login that failed for want of an answer again at once', async () => {
    const { acquire, control } = lifeOf();
    control.failLogin = new VaultError('UNAVAILABLE', 'down');
    await expect(acquire()).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    control.failLogin = undefined;
    expect((await acquire()).token).toBe('t2');
  });

  it('looks once at a token that was refused to many, and says forbidden while it is live', async () => {
    const { acquire, life, seen } = lifeOf();
    const lease = await acquire();
    const worth = await Promise.all(Array.from({ length: 50 }, () => life.isWorthRetrying(lease)));
    expect(new Set(worth)).toEqual(new Set([false]));
    expect(seen.lookups).toBe(1);
    expect(seen.logins).toBe(1);
  });

  it('does not log in for every refusal to a token that may not look at itself', async () => {
    const { acquire, life, seen, clock, control } = lifeOf();
    control.live = false;
    const refusal = new VaultError('FORBIDDEN', 'no');
    for (let request = 0; request < 50; request++) {
      const lease = await acquire();
      if (await life.isWorthRetrying(lease)) {
        expect((await life.judge(await acquire(), refusal)).code).toBe('FORBIDDEN');
      }
      await clock.advance(100);
    }
    expect(seen.logins).toBe(2);
  });

  it('calls a configured token unauthenticated when it is void, and asks again after a pause only', async () => {
    const { acquire, life, seen, control } = lifeOf({ makesTokens: false, grant: { revocable: false } });
    control.live = false;
    const lease = await acquire();
    expect(await life.isWorthRetrying(lease)).toBe(true);
    const judged = await life.judge(await acquire(), new VaultError('FORBIDDEN', 'no'));
    expect(judged.code).toBe('UNAUTHENTICATED');
    await expect(acquire()).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
    expect(seen.logins).toBe(2);
  });

  it('goes on with the lease of an earlier process, and renews at once what is in its last third', async () => {
    const { life, acquire, clock, seen } = lifeOf();
    const lease: Lease = {
      token: 'old',
      expiresAt: clock.now() + 0.2 * HOUR,
      grantedMs: HOUR,
      renewable: true,
      usesLeft: Number.POSITIVE_INFINITY,
      revocable: true,
    };
    life.resume(lease);
    expect((await acquire()).token).toBe('old');
    expect(seen.logins).toBe(0);
    await clock.advance(1000);
    expect(seen.renewals.length).toBe(1);
  });

  it('does not go on with a lease that is over', async () => {
    const { life, acquire, clock, seen } = lifeOf();
    life.resume({
      token: 'old',
      expiresAt: clock.now(),
      grantedMs: HOUR,
      renewable: true,
      usesLeft: 1,
      revocable: true,
    });
    expect((await acquire()).token).toBe('t1');
    expect(seen.logins).toBe(1);
  });

  it('revokes at the end what a login made, and leaves a kept session and a configured token alone', async () => {
    const revoking = lifeOf();
    await revoking.acquire();
    await revoking.life.close(false);
    expect(revoking.seen.revoked).toEqual(['t1']);
    const keeping = lifeOf();
    await keeping.acquire();
    await keeping.life.close(true);
    expect(keeping.seen.revoked).toEqual([]);
    const configured = lifeOf({ makesTokens: false, grant: { revocable: false } });
    await configured.acquire();
    await configured.life.close(false);
    expect(configured.seen.revoked).toEqual([]);
    expect(configured.clock.pending).toBe(0);
  });

  it('lets a caller give up while the login goes on for the others', async () => {
    const { life, acquire, seen } = lifeOf();
    const controller = new AbortController();
    const impatient = life.acquire(controller.signal, gaveUp);
    const patient = acquire();
    controller.abort();
    await expect(impatient).rejects.toMatchObject({ code: 'CANCELLED' });
    expect((await patient).token).toBe('t1');
    expect(seen.logins).toBe(1);
  });
});
