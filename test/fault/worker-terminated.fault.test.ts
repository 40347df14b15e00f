import { expect, it } from 'vitest';
import { ENGINE_NAMES } from '../support/engines.ts';
import { terminateAtWork } from './support/terminated-workers.ts';

it.each(ENGINE_NAMES)(
  'threads that are ended in the middle of a call leave no key in use and take none with them: %s',
  async (name) => {
    const { before, after, works } = await terminateAtWork(name, 150);
    expect(works).toBe(true);
    expect(after).toBe(before);
  },
);
