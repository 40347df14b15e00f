/** The function. What is outside of `handler` runs once in each instance: that is the cold start. */
import { connect } from 'dekd/client';
import { startAgent } from './agent.ts';

const agent = await startAgent();
const dekd = connect({ socket: agent.socket, timeoutMs: 5_000 });

export interface Order {
  id: string;
  /** A card number, or the token of one. */
  card: string;
}

export type Event = { seal: Order } | { open: Order };

/** @returns the order with a token in place of the card number, or the reverse */
export async function handler(event: Event): Promise<Order> {
  if ('seal' in event) {
    const { id, card } = event.seal;
    return { id, card: await dekd.encryptText(card, binding(id)) };
  }
  const { id, card } = event.open;
  return { id, card: await dekd.decryptText(card, binding(id)) };
}

/** For platforms that tell an instance that it will end. */
export async function close(): Promise<void> {
  await dekd.close();
  await agent.close();
}

function binding(id: string) {
  return { key: 'orders', context: { order: id, field: 'card' } };
}
