import { expect, it } from 'vitest';
import { ENGINE_NAMES } from '../support/engines.ts';
import { terminateAtWork } from './support/terminated-workers.ts';

const ROUNDS = Number(process.env.DEKD_FAULT_ROUNDS ?? 150);

it.each(ENGINE_NAMES)(
  'threads that are ended in the middle of a call leave no key in use and take none with them: %s',
  async (name) => {
    const { before, after, works } = await terminateAtWork(name, ROUNDS);
    expect(works).toBe(true);
    expect(after).toBe(before);
  },
);
