/** Ways of putting a file on the disk, encrypted or not, each done when the disk has it. */
import { createCipheriv, createSecretKey, randomBytes } from 'node:crypto';
import {
  createReadStream,
  createWriteStream,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { connect } from '../../src/client/index.ts';
import { AgentProcess } from './agent-process.ts';
import { ageProgram, opensslProgram, syncFile } from './file-programs.ts';
import { AAD } from './in-process.ts';
import { PIECE_BYTES } from './passing.ts';
import { BINDING, MIB } from './scenarios.ts';
import { stockSealing } from './stock-sdk.ts';
import { hasTool, runTool } from './tools.ts';

export interface Contestant {
  readonly name: string;
  /** Encrypts or copies the file once, until it is on the disk. */
  run(): Promise<void>;
  /** Before each run, and not timed: no run replaces a file, and each begins with nothing to be written. */
  prepare(): void;
}

export interface FileContest {
  /** All that this machine has; `dd` first, which is the limit. */
  readonly contestants: readonly Contestant[];
  close(): Promise<void>;
}

/** Bytes of plaintext in a frame: dekd's own default of files, and the stock SDK gets the same. */
const FRAME = MIB;

/** A file of so many bytes, read before everything, and an agent. Files lie in the folder for temporary files: TMPDIR. */
export async function openFileContest(bytes: number): Promise<FileContest> {
  const folder = mkdtempSync(join(tmpdir(), 'dekd-bench-file-'));
  const source = join(folder, 'source');
  const pattern = randomBytes(MIB);
  writeFileSync(source, Buffer.concat(Array.from({ length: bytes / MIB }, () => pattern)));
  syncFile(source);
  const agent = await AgentProcess.start();
  const client = connect({ socket: agent.socket });
  const contestant = (name: string, run: (target: string) => Promise<void>): Contestant => {
    const target = join(folder, name.replaceAll(/\W/g, '-'));
    return {
      name,
      run: () => run(target),
      prepare: () => rmSync(target, { force: true }),
    };
  };
  const program = (name: string, encrypt: (source: string, target: string) => Promise<void>) =>
    contestant(name, async (target) => {
      await encrypt(source, target);
      syncFile(target);
    });
  const key = createSecretKey(randomBytes(32));
  const stock = stockSealing(FRAME);
  const message = join(folder, 'message');
  await client.encryptFile(source, message, BINDING);
  const contestants = [
    contestant('dd', (target) => runTool('dd', [`if=${source}`, `of=${target}`, 'bs=1M', 'conv=fsync'])),
    contestant('dekd encryptFile', (target) => client.encryptFile(source, target, BINDING)),
    contestant('dekd decryptFile', (target) => client.decryptFile(message, target, BINDING)),
    ...(hasTool('age') ? [program('age', (await ageProgram(folder)).encrypt)] : []),
    ...(hasTool('openssl') ? [program('openssl enc (CTR)', (await opensslProgram(folder)).encrypt)] : []),
    contestant('node:crypto in process', (target) =>
      throughTo(source, createCipheriv('aes-256-gcm', key, randomBytes(12)).setAAD(AAD), target),
    ),
    contestant('stock AWS SDK', (target) => throughTo(source, stock(), target)),
  ];
  const opened = join(folder, 'opened');
  await client.decryptFile(message, opened, BINDING);
  if (statSync(opened).size !== bytes || !readFileSync(opened).subarray(-MIB).equals(pattern)) {
    throw new Error('the file does not open to what it was');
  }
  rmSync(opened);
  return {
    contestants,
    async close() {
      await client.close();
      await agent.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** As an application writes it, that wants the disk to have it. */
async function throughTo(source: string, through: NodeJS.ReadWriteStream, target: string): Promise<void> {
  await pipeline(createReadStream(source, { highWaterMark: PIECE_BYTES }), through, createWriteStream(target));
  const file = await open(target, 'r+');
  await file.sync();
  await file.close();
}
