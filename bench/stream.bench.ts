/** Messages through streams, from memory to nowhere, beside what else makes or carries as many bytes. */
import { createCipheriv, createSecretKey, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from '../src/client/index.ts';
import { AgentProcess } from './support/agent-process.ts';
import { BareEcho } from './support/bare-echo.ts';
import { engineSealing } from './support/engine-stream.ts';
import { ageProgram, opensslProgram } from './support/file-programs.ts';
import type { Group, Subject } from './support/group.ts';
import { AAD } from './support/in-process.ts';
import { PIECE_BYTES, pass, pieces } from './support/passing.ts';
import { BINDING, MIB } from './support/scenarios.ts';
import { openEngine } from './support/sealer.ts';
import { stockSealing } from './support/stock-sdk.ts';
import { hasTool } from './support/tools.ts';

const TOTAL = 64 * MIB;
/** Pieces under way in the bare echo: as many bytes as both windows of a stream. */
const ECHO_WIDTH = 4;

function streams(name: string, frameLength: number): Group {
  return {
    name: `stream ${name}`,
    baseline: `seal/in-process/${name}`,
    async open() {
      const agent = await AgentProcess.start();
      const client = connect({ socket: agent.socket });
      const engine = await openEngine('native');
      const bare = new BareEcho();
      const folder = mkdtempSync(join(tmpdir(), 'dekd-bench-stream-'));
      const source = join(folder, 'source');
      writeFileSync(source, Buffer.concat([...pieces(TOTAL)]));
      const key = createSecretKey(randomBytes(32));
      const sealed = engineSealing(engine, frameLength);
      const stock = stockSealing(frameLength);
      const cipher = () => createCipheriv('aes-256-gcm', key, randomBytes(12)).setAAD(AAD);
      const encrypt = () => client.encryptStream({ ...BINDING, frameLength });
      await checkOpens(client);

      /** Work that is done when at least as much came out as went in. */
      const longer = (label: string, run: () => Promise<number> | number): Subject => ({
        name: `${label}/${name}`,
        bytes: TOTAL,
        work: async (count) => {
          for (let i = 0; i < count; i++) {
            if ((await run()) < TOTAL) {
              throw new Error(`${label} lost something`);
            }
          }
        },
      });
      const program = async (label: string, made: Promise<{ encrypt(from: string, to: string): Promise<void> }>) => {
        const { encrypt: run } = await made;
        return longer(label, async () => {
          await run(source, '/dev/null');
          return TOTAL;
        });
      };
      const subjects: Subject[] = [
        longer('seal/in-process', () => pass(TOTAL, cipher())),
        longer('seal/stream', () => pass(TOTAL, encrypt())),
        longer('seal-and-open/stream', () => pass(TOTAL, encrypt(), client.decryptStream(BINDING))),
        longer('seal/engine-without-socket', () => sealed(pieces(TOTAL))),
        longer('seal/stock-aws-sdk', () => pass(TOTAL, stock())),
        ...(hasTool('age') ? [await program('seal/age', ageProgram(folder))] : []),
        ...(hasTool('openssl') ? [await program('seal/openssl-enc-ctr', opensslProgram(folder))] : []),
        longer('bare-echo/c++', async () => {
          await bare.send(TOTAL / PIECE_BYTES, ECHO_WIDTH, PIECE_BYTES);
          return TOTAL;
        }),
      ];
      return {
        subjects,
        async close() {
          engine.close();
          await client.close();
          await bare.stop();
          await agent.stop();
          rmSync(folder, { recursive: true, force: true });
        },
      };
    },
  };
}

/** Once, outside of every timed loop: what comes out of both streams is what went in. */
async function checkOpens(client: ReturnType<typeof connect>): Promise<void> {
  const bytes = randomBytes(3 * MIB + 1);
  const through = client.encryptStream(BINDING);
  const back = through.pipe(client.decryptStream(BINDING) as unknown as NodeJS.WritableStream);
  through.end(bytes);
  const opened: Uint8Array[] = [];
  for await (const chunk of back as unknown as AsyncIterable<Uint8Array>) {
    opened.push(chunk);
  }
  if (!Buffer.concat(opened).equals(bytes)) {
    throw new Error('the streams do not give back what they took');
  }
}

export const groups: readonly Group[] = [streams('64KiB-frames', 64 * 1024), streams('1MiB-frames', MIB)];
