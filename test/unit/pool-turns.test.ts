import { describe, expect, it } from 'vitest';
import { Turns } from '../../src/pool/turns.ts';

/** Takes `count` turns for one owner, each ended at once, and writes down whose turn it was. */
function takeAll(turns: Turns, owner: object, name: string, count: number, order: string[]): Promise<unknown> {
  return Promise.all(
    Array.from({ length: count }, async () => {
      const over = await turns.take(owner);
      order.push(name);
      over();
    }),
  );
}

describe('Turns', () => {
  it('go from owner to owner, however much one of them waits with', async () => {
    const turns = new Turns(1);
    const order: string[] = [];
    await Promise.all([
      takeAll(turns, {}, 'a', 100, order),
      takeAll(turns, {}, 'b', 2, order),
      takeAll(turns, {}, 'c', 3, order),
    ]);
    expect(order.slice(0, 8).join('')).toBe('abcabcac');
    expect(order).toHaveLength(105);
    expect(turns.length).toBe(0);
  });

  it('are taken by as many at once as there are seats', async () => {
    const turns = new Turns(2);
    const first = await turns.take({});
    await turns.take({});
    let third = false;
    const waiting = turns.take({}).then(() => {
      third = true;
    });
    for (let round = 0; round < 5; round++) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(third).toBe(false);
    first();
    await waiting;
    expect(third).toBe(true);
  });

  it('end once: a seat is never given up twice', async () => {
    const turns = new Turns(1);
    const over = await turns.take({});
    over();
    over();
    await turns.take({});
    let isTaken = false;
    void turns.take({}).then(() => {
      isTaken = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(isTaken).toBe(false);
  });

  it('come one in each round of the event loop, so that what has come meanwhile is served first', async () => {
    const turns = new Turns(1);
    const order: string[] = [];
    const slices = takeAll(turns, {}, 'slice', 3, order);
    const rounds = (async () => {
      for (let round = 0; round < 3; round++) {
        await new Promise((resolve) => setImmediate(resolve));
        order.push('round');
      }
    })();
    await Promise.all([slices, rounds]);
    expect(order.join(' ')).not.toContain('slice slice');
  });
});
