import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { createTestAgent, type TestAgent } from '../../src/testkit/index.ts';
import { childEnvironment, NODE, residentBytes } from '../support/agent.ts';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
const BYTES = Number(process.env.DEKD_STREAM_GIB ?? 1) * GIB;
/** Before anything is measured: heaps and buffers are as large as they will be. */
const WARM_UP = GIB;
/**
 * What either side may have more at its most in the second half of the stream than at its most in the first: a step
 * that a late collection of garbage makes once, and not with every GiB.
 */
const GROWTH = 32 * MIB;
/** What either side may have at all; Node alone has half of it. */
const MOST = 256 * MIB;
const SAMPLES = 100;

/**
 * Sends bytes through `encryptStream`, and through `decryptStream` too where it is told `both`, with `reencryptStream` between
 * the two where it is told `all`, first those of the warm-up and then those that count; compares what comes back; says after every hundredth what memory it has.
 */
const CLIENT = `
const [url, socket, way, ...lengths] = process.argv.slice(1);
const { connect } = await import(url);
const { randomBytes } = await import('node:crypto');
const { Readable } = await import('node:stream');
const { pipeline } = await import('node:stream/promises');
const pattern = randomBytes(1 << 20);
function* source(total) {
  for (let at = 0; at < total; at += pattern.length) yield pattern.subarray(0, Math.min(pattern.length, total - at));
}
function check(chunk, at) {
  for (let from = 0; from < chunk.length; ) {
    const offset = (at + from) % pattern.length;
    const length = Math.min(chunk.length - from, pattern.length - offset);
    if (pattern.compare(chunk, from, from + length, offset, offset + length) !== 0) throw new Error('other bytes');
    from += length;
  }
}
const dekd = connect({ socket });
for (const [round, total] of lengths.map(Number).entries()) {
  const options = { key: 'k' };
  const streams = [dekd.encryptStream(options)];
  if (way === 'all') streams.push(dekd.reencryptStream(options));
  if (way !== 'encrypt') streams.push(dekd.decryptStream(options));
  await pipeline(Readable.from(source(total)), ...streams, async (chunks) => {
    let next = 0;
    let received = 0;
    for await (const chunk of chunks) {
      if (way !== 'encrypt') check(chunk, received);
      received += chunk.length;
      for (; next < ${SAMPLES} && received >= ((next + 1) * total) / ${SAMPLES}; next++) {
        console.log(JSON.stringify({ round, received, resident: process.memoryUsage.rss() }));
      }
    }
    console.log(JSON.stringify({ round, received, resident: process.memoryUsage.rss() }));
  });
}
await dekd.close();
`;

interface Sample {
  /** Bytes that have come out. */
  readonly received: number;
  /** Resident memory. */
  readonly client: number;
  readonly agent: number;
}

describe(`a stream of ${BYTES / GIB} GiB`, () => {
  it.each(['encrypt', 'both', 'all'])('(%s) grows neither the client nor the agent', async (way) => {
    await using agent = await createTestAgent({ node: NODE });
    const { samples, seconds } = await stream(agent, way);
    const { received } = samples.at(-1)!;
    const client = memoryOf(samples, (sample) => sample.client);
    const ofAgent = memoryOf(samples, (sample) => sample.agent);
    console.log(`${way}: ${(BYTES / MIB / seconds).toFixed(0)} MiB/s; client ${said(client)}, agent ${said(ofAgent)}`);
    expect(received).toBeGreaterThanOrEqual(BYTES);
    expect(way === 'encrypt' ? BYTES : received).toBe(BYTES);
    for (const { most, growth } of [client, ofAgent]) {
      expect(growth).toBeLessThan(GROWTH);
      expect(most).toBeLessThan(MOST);
    }
  });
});

/** @throws with what the client wrote when it does not come to its end */
async function stream({ socket, pid }: TestAgent, way: string): Promise<{ samples: Sample[]; seconds: number }> {
  const url = new URL('../../src/client/index.ts', import.meta.url).href;
  const args = ['--input-type=module', '-e', CLIENT, url, socket, way, String(WARM_UP), String(BYTES)];
  const cwd = fileURLToPath(new URL('../..', import.meta.url));
  const child = spawn(NODE, args, { cwd, env: childEnvironment(), stdio: ['ignore', 'pipe', 'pipe'] });
  const exited = new Promise<number | null>((resolve) => child.once('close', resolve));
  let trouble = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    trouble += text;
  });
  const samples: Sample[] = [];
  let begun = 0;
  for await (const line of createInterface({ input: child.stdout })) {
    const { round, received, resident } = JSON.parse(line) as { round: number; received: number; resident: number };
    if (round === 0) {
      begun = performance.now();
    } else {
      samples.push({ received, client: resident, agent: residentBytes(pid) });
    }
  }
  const seconds = (performance.now() - begun) / 1000;
  const code = await exited;
  if (code !== 0) {
    throw new Error(`the client ended with ${code}: ${trouble}`);
  }
  expect(samples).toHaveLength(SAMPLES + 1);
  return { samples, seconds };
}

/** The peaks of the halves: between them memory goes up and down as garbage is collected. */
function memoryOf(samples: readonly Sample[], of: (sample: Sample) => number): { most: number; growth: number } {
  const half = samples.length / 2;
  const [first, second] = [samples.slice(0, half), samples.slice(half)].map((part) => Math.max(...part.map(of)));
  return { most: Math.max(first!, second!), growth: second! - first! };
}

function said({ most, growth }: { most: number; growth: number }): string {
  const change = `${growth < 0 ? '' : '+'}${(growth / MIB).toFixed(1)}`;
  return `at most ${(most / MIB).toFixed(0)} MiB (${change} in the second half)`;
}
