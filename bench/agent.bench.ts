/** One connection to an agent in another process, beside bare echoes and beside node:crypto in process. */
import { randomBytes } from 'node:crypto';
import { inFlight } from '../src/cli/bench/in-flight.ts';
import { connect } from '../src/client/index.ts';
import { AgentProcess } from './support/agent-process.ts';
import { BareEcho } from './support/bare-echo.ts';
import { Echo } from './support/echo.ts';
import { type Group, repeat, SIZES, type Size, type Subject } from './support/group.ts';
import { InProcess } from './support/in-process.ts';
import { BINDING, calls } from './support/scenarios.ts';

/** What an encrypt adds to its value on the wire; the echo carries as much. */
const REQUEST_FIELDS = 48;
const WIDTH = 1_024;
/** Bytes under way at most: wide enough for small values, and no more than a pod would allow for large ones. */
const BYTES_IN_FLIGHT = 8 * 1024 * 1024;
/** Bytes from which the lane is measured, and the calls under way there: each has room of its own. */
const WORTH_SHARING = 64 * 1024;
const LANE_WIDTH = 32;
const BATCH = 1_000;
const BATCHES = 4;
const BATCH_BYTES = 8 * 1024 * 1024;

function size({ name, bytes }: Size): Group {
  return {
    name: `agent ${name}`,
    baseline: `encrypt/in-process/${name}`,
    async open() {
      const agent = await AgentProcess.start();
      const client = connect({ socket: agent.socket, lane: false });
      const laneClient = connect({ socket: agent.socket });
      const echo = await Echo.start();
      const bare = new BareEcho();
      const width = Math.max(2, Math.min(WIDTH, Math.floor(BYTES_IN_FLIGHT / bytes)));
      const items = Math.max(1, Math.min(BATCH, Math.floor(BATCH_BYTES / bytes)));
      const data = randomBytes(bytes);
      const frame = randomBytes(bytes + REQUEST_FIELDS);
      const application = new InProcess();
      application.check(data);
      const token = await client.encrypt(data, BINDING);
      const subjects: Subject[] = [
        {
          name: `encrypt/awaited/${name}`,
          bytes,
          latency: true,
          work: await calls(client, { width: 1, items: 1, size: bytes }),
        },
        {
          name: `decrypt/awaited/${name}`,
          bytes,
          latency: true,
          work: (count) => inFlight(1, count, () => client.decrypt(token, BINDING)),
        },
        {
          name: `echo/awaited/${name}`,
          bytes,
          latency: true,
          work: (count) => inFlight(1, count, () => echo.send(frame)),
        },
        {
          name: `encrypt/in-flight/${name}`,
          bytes,
          items: width,
          work: waves(await calls(client, { width, items: 1, size: bytes }), width),
        },
        {
          name: `decrypt/in-flight/${name}`,
          bytes,
          items: width,
          work: waves((count) => inFlight(width, count, () => client.decrypt(token, BINDING)), width),
        },
        {
          name: `echo/in-flight/${name}`,
          bytes,
          items: width,
          work: waves((count) => inFlight(width, count, () => echo.send(frame)), width),
        },
        {
          name: `bare-echo/awaited/${name}`,
          bytes,
          work: (count) => bare.send(count, 1, frame.length),
        },
        {
          name: `bare-echo/in-flight/${name}`,
          bytes,
          items: width,
          work: (count) => bare.send(count * width, width, frame.length),
        },
        { name: `encrypt/in-process/${name}`, bytes, work: repeat(() => application.seal(data)) },
      ];
      if (bytes >= WORTH_SHARING) {
        for (const lane of ['allocated', 'plain'] as const) {
          const laneWidth = Math.min(width, LANE_WIDTH);
          const scenario = { width: laneWidth, items: 1, size: bytes, lane };
          const work = await calls(laneClient, scenario);
          const one = await calls(laneClient, { ...scenario, width: 1 });
          subjects.push(
            { name: `encrypt/lane-${lane}-awaited/${name}`, bytes, work: one },
            { name: `encrypt/lane-${lane}/${name}`, bytes, items: laneWidth, work: waves(work, laneWidth) },
          );
        }
      }
      if (items > 1) {
        const work = await calls(client, { width: BATCHES, items, size: bytes });
        subjects.push({
          name: `encrypt/batch-of-${items}/${name}`,
          bytes,
          items: items * BATCHES,
          work: waves(work, BATCHES),
        });
      }
      return {
        subjects,
        async close() {
          await client.close();
          await laneClient.close();
          await echo.stop();
          await bare.stop();
          await agent.stop();
        },
      };
    },
  };
}

/** Work counted in waves of `width` calls: fewer would not be in flight together. */
function waves(work: Subject['work'], width: number): Subject['work'] {
  return (count) => work(count * width);
}

export const groups: readonly Group[] = SIZES.filter(({ name }) =>
  ['64B', '1KiB', '16KiB', '64KiB', '1MiB'].includes(name),
).map(size);
