/** The other end of the client: an agent that answers as a test says, and counts the frames it gets. */
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { FrameReader } from '../../src/protocol/frame.ts';
import { messages, type RequestFields } from '../../src/protocol/messages.ts';
import { frameOf } from './raw-client.ts';
import { makeFolder, removeFolder } from './temporary-folder.ts';

export interface FakeConnection {
  readonly socket: Socket;
  /** Which connection this is, from 0. */
  readonly index: number;
  reply(fields: object): void;
}

export interface FakeAgent {
  readonly path: string;
  /** Every request but the hellos, in order. */
  readonly requests: RequestFields[];
  readonly connections: FakeConnection[];
  stop(): Promise<void>;
}

export interface FakeOptions {
  readonly hello?: object;
  readonly onRequest: (request: RequestFields, connection: FakeConnection) => void;
}

export async function startFakeAgent({ hello, onRequest }: FakeOptions): Promise<FakeAgent> {
  const folder = makeFolder();
  const path = join(folder, 'agent.sock');
  const requests: RequestFields[] = [];
  const connections: FakeConnection[] = [];
  const server: Server = createServer((socket) => {
    const connection: FakeConnection = {
      socket,
      index: connections.length,
      reply: (fields) => void socket.write(frameOf(messages.Reply.encode(fields).finish())),
    };
    connections.push(connection);
    const reader = new FrameReader(64 * 1024 * 1024, (frame) => {
      const request = messages.Request.decode(Buffer.from(frame));
      if (request.hello) {
        connection.reply({
          id: request.id,
          hello: { version: 1, maxPayload: 1 << 20, maxFrame: (1 << 20) + 65_536, maxInFlight: 1024, ...hello },
        });
        return;
      }
      requests.push(request);
      onRequest(request, connection);
    });
    socket.on('data', (chunk: Buffer) => reader.push(chunk));
    socket.on('error', () => {});
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return {
    path,
    requests,
    connections,
    stop: () =>
      new Promise((resolve) => {
        for (const { socket } of connections) {
          socket.destroy();
        }
        server.close(() => {
          removeFolder(folder);
          resolve();
        });
      }),
  };
}
