/** A socket in front of an agent's that counts the frames of its clients. */
import { mkdirSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { makeFolder, removeFolder } from './temporary-folder.ts';

export interface FrameCounter {
  readonly socket: string;
  /** Frames since it was last asked. */
  taken(): number;
  stop(): Promise<void>;
}

export async function countFrames(agentSocket: string): Promise<FrameCounter> {
  const folder = makeFolder();
  mkdirSync(join(folder, 's'), { mode: 0o700 });
  const socket = join(folder, 's/agent.sock');
  const open = new Set<Socket>();
  let frames = 0;
  const server = createServer((client) => {
    const agent = connect(agentSocket);
    let held = Buffer.alloc(0);
    client.on('data', (bytes: Buffer) => {
      held = Buffer.concat([held, bytes]);
      while (held.length >= 4 && held.length >= 4 + held.readUInt32BE(0)) {
        frames += 1;
        held = held.subarray(4 + held.readUInt32BE(0));
      }
      agent.write(bytes);
    });
    agent.pipe(client);
    for (const [one, other] of [
      [client, agent],
      [agent, client],
    ] as const) {
      open.add(one);
      one.on('error', () => undefined);
      one.on('close', () => {
        open.delete(one);
        other.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  return {
    socket,
    taken: () => {
      const count = frames;
      frames = 0;
      return count;
    },
    stop: async () => {
      for (const one of open) {
        one.destroy();
      }
      await new Promise((resolve) => server.close(resolve));
      removeFolder(folder);
    },
  };
}
