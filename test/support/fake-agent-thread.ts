/** The agents of `fake-agent.ts` in a thread of their own, for clients that block theirs. */
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { messages, type RequestFields } from '../../src/protocol/messages.ts';
import { type FakeConnection, startFakeAgent } from './fake-agent.ts';
import { frameOf } from './raw-client.ts';

/** What it does with a request. `once` is with the first request; the silent and the late one have to do with the text `first`. */
export type Manner =
  | 'echoes'
  | 'is silent'
  | 'is silent once'
  | 'answers byte by byte'
  | 'answers twice'
  | 'says farewell behind the answer'
  | 'begins a farewell behind the answer'
  | 'says farewell in place of the first answer'
  | 'answers another request'
  | 'sends no protobuf'
  | 'claims a frame of 100 MiB'
  | 'closes once'
  | 'closes in the middle of the first answer'
  | 'is shutting down once'
  | 'answers the first late';

export interface FakeThread {
  readonly path: string;
  /** Connections and requests so far. */
  counts(): Promise<{ connections: number; requests: number }>;
  stop(): Promise<void>;
}

/** @param lateMs how late is late */
export async function startFakeThread(manner: Manner, lateMs = 0): Promise<FakeThread> {
  const worker = new Worker(fileURLToPath(import.meta.url), { workerData: { manner, lateMs }, execArgv: [], env: {} });
  const next = () => new Promise<unknown>((resolve) => worker.once('message', resolve));
  const path = (await next()) as string;
  return {
    path,
    counts() {
      const answer = next();
      worker.postMessage('count');
      return answer as Promise<{ connections: number; requests: number }>;
    },
    async stop() {
      const answer = next();
      worker.postMessage('stop');
      await answer;
      await worker.terminate();
    },
  };
}

function sentIn(request: RequestFields): Uint8Array {
  return (request.encrypt ?? request.decrypt)!.data!;
}

function act(manner: Manner, lateMs: number, count: number, request: RequestFields, connection: FakeConnection): void {
  const { socket } = connection;
  const answer = { id: request.id!, value: sentIn(request) };
  const bytes = frameOf(messages.Reply.encode(answer).finish());
  const isFirst = count === 0;
  const isNamedFirst = Buffer.from(sentIn(request)).toString() === 'first';
  switch (manner) {
    case 'echoes':
      socket.write(bytes);
      return;
    case 'is silent':
      return;
    case 'is silent once':
      if (!isNamedFirst) {
        socket.write(bytes);
      }
      return;
    case 'answers byte by byte': {
      let at = 0;
      const timer = setInterval(() => {
        socket.write(bytes.subarray(at, at + 1));
        at += 1;
        if (at === bytes.length) {
          clearInterval(timer);
        }
      }, 1);
      return;
    }
    case 'answers twice':
      socket.write(Buffer.concat([bytes, bytes]));
      return;
    case 'says farewell behind the answer': {
      const error = { id: 0, error: { code: 16, message: 'stopping' } };
      socket.write(Buffer.concat([bytes, frameOf(messages.Reply.encode(error).finish())]));
      return;
    }
    case 'begins a farewell behind the answer': {
      const farewell = frameOf(messages.Reply.encode({ id: 0, error: { code: 16, message: 'stopping' } }).finish());
      socket.write(Buffer.concat([bytes, farewell.subarray(0, 7)]));
      setTimeout(() => socket.write(farewell.subarray(7)), 5);
      return;
    }
    case 'says farewell in place of the first answer':
      if (isFirst) {
        connection.reply({ id: 0, error: { code: 13, message: 'too many' } });
      } else {
        socket.write(bytes);
      }
      return;
    case 'answers another request':
      connection.reply({ ...answer, id: request.id! + 1 });
      return;
    case 'sends no protobuf':
      socket.write(frameOf(Buffer.from('ffffffffffffffff', 'hex')));
      return;
    case 'claims a frame of 100 MiB':
      socket.write(Buffer.from([6, 64, 0, 0]));
      return;
    case 'closes once':
      if (isFirst) {
        socket.destroy();
      } else {
        socket.write(bytes);
      }
      return;
    case 'closes in the middle of the first answer':
      if (isFirst) {
        socket.end(bytes.subarray(0, bytes.length - 1));
      } else {
        socket.write(bytes);
      }
      return;
    case 'is shutting down once':
      if (isFirst) {
        connection.reply({ id: request.id, error: { code: 16, message: 'stopping' } });
      } else {
        socket.write(bytes);
      }
      return;
    case 'answers the first late':
      setTimeout(() => socket.write(bytes), isNamedFirst ? lateMs : 0);
  }
}

if (!isMainThread && parentPort !== null && (workerData as { manner?: Manner } | null)?.manner !== undefined) {
  const port = parentPort;
  const { manner, lateMs } = workerData as { manner: Manner; lateMs: number };
  const agent = await startFakeAgent({
    onRequest: (request, connection) => act(manner, lateMs, agent.requests.length - 1, request, connection),
  });
  port.on('message', async (message) => {
    if (message === 'stop') {
      await agent.stop();
      port.postMessage('stopped');
    } else {
      port.postMessage({ connections: agent.connections.length, requests: agent.requests.length });
    }
  });
  port.postMessage(agent.path);
}
