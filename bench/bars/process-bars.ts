/** Bars of the agent as a process: its start, its memory, its connections. All on dist/ with state on disk. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from '../../src/client/index.ts';
import { AgentProcess } from '../support/agent-process.ts';
import { greeted } from '../support/connections.ts';
import { median } from '../support/interleave.ts';
import { BINDING } from '../support/scenarios.ts';
import { type Bar, figure, type Measured } from './bar.ts';
import { kmsStartBar } from './kms-start-bar.ts';

const STARTS = 5;
const SETTLE_MS = 2_000;
const KIB = 1024;
const MIB = 1024 * KIB;
const BURST = 1_500;
const IDLE = 4_096;
/** Connects at a time while the idle connections are made. */
const STEP = 256;

/** A state folder with a key in it, for as long as `body` runs. */
async function withState<T>(body: (state: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'dekd-bench-state-'));
  const state = join(folder, 'state');
  try {
    await (await answering(state)).stop();
    return await body(state);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Starts an agent and @returns it as soon as it has answered an encrypt. */
async function answering(state: string): Promise<AgentProcess> {
  const agent = new AgentProcess({ state });
  while (!existsSync(agent.socket)) {
    if (agent.child.exited) {
      await agent.child.says('ready');
    }
    await sleep(1);
  }
  const client = connect({ socket: agent.socket });
  await client.encrypt(Buffer.from('first'), BINDING);
  await client.close();
  return agent;
}

function start(): Promise<Measured> {
  return withState(async (state) => {
    const taken: number[] = [];
    for (let i = 0; i < STARTS; i++) {
      const begun = performance.now();
      const agent = await answering(state);
      taken.push(performance.now() - begun);
      await agent.stop();
    }
    return { ratio: median(taken), detail: taken.map((ms) => figure(ms)).join(', ') };
  });
}

function idleMemory(): Promise<Measured> {
  return withState(async (state) => {
    const agent = await answering(state);
    await sleep(SETTLE_MS);
    const { residentBytes } = agent;
    await agent.stop();
    return { ratio: residentBytes / MIB, detail: 'after one encrypt and 2 s' };
  });
}

function burst(): Promise<Measured> {
  return withState(async (state) => {
    const agent = await answering(state);
    const begun = performance.now();
    const sockets = await Promise.all(Array.from({ length: BURST }, () => greeted(agent.socket)));
    const taken = performance.now() - begun;
    const refused = sockets.filter((socket) => socket === undefined).length;
    closeAll(sockets);
    await agent.stop();
    return { ratio: refused, detail: `${BURST} greeted within ${figure(taken)} ms` };
  });
}

function idleConnections(): Promise<Measured> {
  return withState(async (state) => {
    const agent = await answering(state);
    await sleep(SETTLE_MS);
    const before = agent.residentBytes;
    const sockets: (Socket | undefined)[] = [];
    while (sockets.length < IDLE) {
      sockets.push(...(await Promise.all(Array.from({ length: STEP }, () => greeted(agent.socket)))));
    }
    await sleep(SETTLE_MS);
    const after = agent.residentBytes;
    const open = sockets.filter((socket) => socket !== undefined && !socket.destroyed).length;
    closeAll(sockets);
    await agent.stop();
    if (open < IDLE) {
      throw new Error(`only ${open} of ${IDLE} idle connections stayed open; see ulimit -n`);
    }
    return {
      ratio: (after - before) / IDLE / KIB,
      detail: `${figure(before / MIB)} MiB without, ${figure(after / MIB)} MiB with them`,
    };
  });
}

function closeAll(sockets: readonly (Socket | undefined)[]): void {
  for (const socket of sockets) {
    socket?.destroy();
  }
}

export const processBars: readonly Bar[] = [
  { name: 'agent start to first answered encrypt, local root and sqlite, ms', atMost: 150, measure: start },
  kmsStartBar,
  { name: 'resident memory of an idle agent, MiB', atMost: 110, measure: idleMemory },
  { name: 'connects refused in a burst of 1,500', atMost: 0, measure: burst },
  { name: 'each of 4,096 idle connections, KiB of the agent', atMost: 24, measure: idleConnections },
];
