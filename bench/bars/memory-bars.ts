/** Bars of memory under load: what the agent has at its most, as the kernel counts it. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type AgentOptions, AgentProcess } from '../support/agent-process.ts';
import { Clients } from '../support/clients.ts';
import { MemoryTrack } from '../support/memory-track.ts';
import { MIB } from '../support/scenarios.ts';
import { StreamClients } from '../support/stream-clients.ts';
import { type Bar, figure, type Measured } from './bar.ts';

/** Each is a message on its way, made by one stream and opened by another. */
const PASSES = 50;
const STREAMS = 2 * PASSES;
const STREAM_BYTES = 16 * MIB;
/** The long stream: warm first, so that heaps and buffers are as large as they will be. */
const LONG_WARM_BYTES = 1024 * MIB;
const LONG_BYTES = 4 * 1024 * MIB;
const GROWTH_OF = ['the agent', 'the client'] as const;
/** Of calls and batches, while the streams pass. */
const SETTLE_MS = 500;

/** As the image and the unit start it, with as many workers as the bar says: the heap's young part is bounded there. */
const AS_DEPLOYED = { flags: ['--max-semi-space-size=4'], env: { DEKD_WORKERS: '2' } } as const;

/** An agent, and everybody at it whom `body` calls; `stop` of what it gives back ends them. */
async function withAgent<T>(body: (agent: AgentProcess) => Promise<T>, options?: AgentOptions): Promise<T> {
  const agent = await AgentProcess.start(options);
  try {
    return await body(agent);
  } finally {
    await agent.stop();
  }
}

function manyStreams(): Promise<Measured> {
  return withAgent(async (agent) => {
    const clients = await StreamClients.start(agent.socket);
    const track = new MemoryTrack([agent.child.pid]);
    const taken = await clients.pass({ streams: PASSES, bytes: STREAM_BYTES, both: true });
    track.stop();
    await clients.stop();
    const rate = (PASSES * STREAM_BYTES) / MIB / (taken / 1_000);
    return {
      ratio: track.most(0) / MIB,
      detail: `${STREAM_BYTES / MIB} MiB each, ${figure(rate)} MiB/s together`,
    };
  });
}

/** Streams, calls in flight, large values and batches all at once, each from a process of its own. */
function fullLoad(): Promise<Measured> {
  return withAgent(async (agent) => {
    const streams = await StreamClients.start(agent.socket);
    const others = [
      await Clients.start(agent.socket, 'in-flight', 8),
      await Clients.start(agent.socket, 'batch', 4),
      await Clients.start(agent.socket, 'mebibyte-in-flight', 4),
    ];
    await sleep(SETTLE_MS);
    const idle = agent.residentBytes;
    const track = new MemoryTrack([agent.child.pid]);
    let isOver = false;
    const busy = others.map(async (clients, i) => {
      while (!isOver) {
        await clients.calls([8_192, 64, 64][i]!);
      }
    });
    await streams.pass({ streams: PASSES, bytes: STREAM_BYTES, both: true });
    isOver = true;
    await Promise.all(busy);
    track.stop();
    await Promise.all([streams, ...others].map((each) => each.stop()));
    return {
      ratio: track.most(0) / MIB,
      detail: `${figure(idle / MIB)} MiB before; ${STREAMS} streams, calls, batches, 1 MiB values`,
    };
  }, AS_DEPLOYED);
}

let long: Promise<readonly [Measured, Measured]> | undefined;

/** What the agent and the client have more at their most in the second half of the stream than in the first. */
function longStream(): Promise<readonly [Measured, Measured]> {
  long ??= withAgent(async (agent) => {
    const clients = await StreamClients.start(agent.socket);
    await clients.pass({ streams: 1, bytes: LONG_WARM_BYTES, both: true });
    const track = new MemoryTrack([agent.child.pid, clients.pid]);
    const taken = await clients.pass({ streams: 1, bytes: LONG_BYTES, both: true });
    track.stop();
    await clients.stop();
    const rate = LONG_BYTES / MIB / (taken / 1_000);
    const growth = (index: number): Measured => ({
      ratio: Math.max(0, track.most(index, 0.5, 1) - track.most(index, 0, 0.5)) / MIB,
      detail: `at most ${figure(track.most(index) / MIB)} MiB; ${figure(rate)} MiB/s both ways`,
    });
    return [growth(0), growth(1)] as const;
  });
  return long;
}

export const memoryBars: readonly Bar[] = [
  { name: `resident memory of an agent with ${STREAMS} streams at once, MiB`, atMost: 192, measure: manyStreams },
  { name: 'resident memory of an agent at full load with 2 workers, MiB', atMost: 192, measure: fullLoad },
  ...GROWTH_OF.map(
    (whose, i): Bar => ({
      name: `growth of ${whose} in the second half of a stream of 4 GiB, MiB`,
      atMost: 16,
      measure: async () => (await longStream())[i]!,
    }),
  ),
];
