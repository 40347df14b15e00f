/** One stop of an agent under load: what had reached its socket when the signal was sent must be answered. */
import type { ChildAgent } from './agent.ts';
import { RawClient, requestFrame } from './raw-client.ts';

const CLIENTS = 4;

/** Replies lost of what was sent before the signal, and how the agent ended. */
export async function drainRound(
  agent: ChildAgent,
  signal: NodeJS.Signals,
): Promise<{ lost: number; exit: number | string }> {
  const clients = await Promise.all(Array.from({ length: CLIENTS }, () => RawClient.greeted(agent.socket)));
  let sent = 0;
  const written: Promise<void>[] = [];
  for (const [i, client] of clients.entries()) {
    const frames: Buffer[] = [];
    const count = 1 + Math.floor(Math.random() * 40);
    for (let id = 1; id <= count; id++) {
      // Some have to wait for their key, the others are answered as they are read.
      const key = Math.random() < 0.2 ? `cold-${i}-${id}` : 'warm';
      frames.push(
        requestFrame({ id: 1_000 + id, encrypt: { key, data: Buffer.alloc(Math.floor(Math.random() * 1_000)) } }),
      );
    }
    sent += count;
    written.push(new Promise((resolve) => client.socket.write(Buffer.concat(frames), () => resolve())));
  }
  // Now all of it is in the kernel: accepted as far as a client can tell.
  await Promise.all(written);
  agent.child.kill(signal);
  await Promise.all(clients.map(({ closed }) => closed));
  const answered = clients.flatMap(({ replies }) => replies).filter(({ value }) => value).length;
  for (const client of clients) {
    client.destroy();
  }
  return { lost: sent - answered, exit: await agent.exited };
}
