import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { FrameReader } from '../../src/protocol/frame.ts';
import { makeFolder, removeFolder } from './temporary-folder.ts';

const MAX_FRAME = 64 * 1024 * 1024;

export interface RecordedFrame {
  readonly from: 'client' | 'agent';
  /** The body of the frame, without its length. */
  readonly hex: string;
}

export interface RecordingProxy {
  readonly path: string;
  /** In the order in which they passed. */
  readonly frames: readonly RecordedFrame[];
  stop(): Promise<void>;
}

/** A socket that passes everything on to an agent's, and keeps the frames. */
export async function startRecordingProxy(agent: string): Promise<RecordingProxy> {
  const folder = makeFolder();
  const path = join(folder, 'agent.sock');
  const frames: RecordedFrame[] = [];
  const server = createServer((client) => {
    const upstream = connect(agent);
    for (const [from, source, target] of [
      ['client', client, upstream],
      ['agent', upstream, client],
    ] as const) {
      const reader = new FrameReader(MAX_FRAME, (frame) => void frames.push({ from, hex: frame.toString('hex') }));
      source.on('data', (chunk: Buffer) => {
        reader.push(chunk);
        target.write(chunk);
      });
      source.on('error', () => {});
      source.on('close', () => target.destroy());
    }
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return {
    path,
    frames,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => {
          removeFolder(folder);
          resolve();
        });
      }),
  };
}
