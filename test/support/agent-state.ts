/** What an agent says of itself, for tests that look at what is left behind. */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import type { RequestFields } from '../../src/protocol/messages.ts';
import { RawClient } from './raw-client.ts';

/** The answer of an admin command. */
export async function administer(
  { admin: path }: { readonly admin: string },
  admin: NonNullable<RequestFields['admin']>,
): Promise<Record<string, unknown>> {
  const raw = await RawClient.greeted(path);
  const { document, error } = await raw.ask({ admin });
  raw.destroy();
  expect(error).toBeFalsy();
  return JSON.parse(Buffer.from(document!).toString()) as Record<string, unknown>;
}

/** Keys in the table of the engine. */
export async function keySlots(agent: { readonly admin: string }): Promise<number> {
  const { memory } = (await administer(agent, { status: {} })) as { memory: { used: number } };
  return memory.used;
}

/** Waits until it is so, for two seconds. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; i < 400 && !(await condition()); i++) {
    await sleep(5);
  }
  expect(await condition()).toBe(true);
}
