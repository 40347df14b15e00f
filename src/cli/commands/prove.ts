import type { DekdClient } from '../../client/types.ts';
import { DekdError } from '../../errors.ts';
import { AdminClient } from '../admin.ts';
import { EXIT } from '../exit.ts';
import { openStage } from '../private-agent.ts';
import { byteSize, type CommandLine, coloured, plural, printResult } from '../terminal.ts';

/** How long the memory is watched while the agent works. */
const WATCH_MS = 2_000;
const BATCH = 100;
/** Flips sent at once. */
const FLIP_BATCH = 512;

/** One check, run with the protection and again without it: a check that cannot go red proves nothing. */
interface Exhibit {
  readonly name: string;
  readonly withProtection: Outcome;
  readonly withoutProtection: Outcome;
}

interface Outcome {
  readonly green: boolean;
  readonly found: string;
}

/** @returns 0 when every check is green with its protection and red without it */
export async function prove(line: CommandLine, options: Record<string, unknown>): Promise<number> {
  const key = options.key as string;
  await using stage = await openStage(line, 'no agent is running; proving with a private one');
  const { client } = stage;
  const exhibits: Exhibit[] = [];
  for (const make of [tamper, contextSwap, memory]) {
    const exhibit = await make(client, key, stage.line);
    exhibits.push(exhibit);
    if (!line.json) {
      process.stdout.write(`${shown(exhibit)}\n`);
    }
  }
  const proven = exhibits.every(
    ({ withProtection, withoutProtection }) => withProtection.green && !withoutProtection.green,
  );
  printResult(
    line,
    { proven, exhibits },
    proven ? 'proven: each green with its protection, red without' : 'NOT proven',
  );
  return proven ? EXIT.ok : EXIT.failed;
}

type Decryptor = (tokens: readonly Uint8Array[]) => Promise<readonly { readonly ok: boolean }[]>;

/** Every bit of a token, turned once. Without the protection: a decryptor that repairs what was changed. */
async function tamper(client: DekdClient, key: string): Promise<Exhibit> {
  const binding = { key, context: { field: 'pan' } };
  const token = await client.encrypt(Buffer.from('4111 1111 1111 1111'), binding);
  const verifying: Decryptor = (tokens) => client.decryptMany(tokens, binding);
  const careless: Decryptor = (tokens) =>
    client.decryptMany(
      tokens.map(() => token),
      binding,
    );
  return {
    name: 'a token changed in one bit',
    withProtection: await flipEveryBit(token, verifying),
    withoutProtection: await flipEveryBit(token, careless),
  };
}

async function flipEveryBit(token: Uint8Array, decryptor: Decryptor): Promise<Outcome> {
  const bits = token.length * 8;
  let opened = 0;
  for (let from = 0; from < bits; from += FLIP_BATCH) {
    const changed = Array.from({ length: Math.min(FLIP_BATCH, bits - from) }, (_, index) => {
      const copy = Uint8Array.from(token);
      copy[(from + index) >> 3]! ^= 1 << ((from + index) & 7);
      return copy;
    });
    opened += (await decryptor(changed)).filter(({ ok }) => ok).length;
  }
  return { green: opened === 0, found: `${opened} of ${bits} changed tokens opened` };
}

/** Tokens moved between rows, fields, tenants and keys. Without the protection: values encrypted without their context. */
async function contextSwap(client: DekdClient, key: string): Promise<Exhibit> {
  const data = Buffer.from('balance 1,000,000');
  const own = { key, context: { table: 'accounts', row: '1' } };
  const token = await client.encrypt(data, own);
  // The other key exists, so that what refuses is the token and not the name.
  const otherKey = `${key}-other`;
  await client.encrypt(data, { key: otherKey, context: own.context });
  const places = [
    { key, context: { table: 'accounts', row: '2' } },
    { key, context: { table: 'savings', row: '1' } },
    { key, context: { table: 'accounts' } },
    { key, context: {} },
    { key, partition: 'other-tenant', context: own.context },
    { key: otherKey, context: own.context },
  ];
  const unbound = await client.encrypt(data, { key });
  const rows = places.slice(0, 4).map(() => ({ key }));
  return {
    name: 'a token moved to another row, field, tenant or key',
    withProtection: await openElsewhere(client, token, places),
    withoutProtection: await openElsewhere(client, unbound, rows),
  };
}

async function openElsewhere(
  client: DekdClient,
  token: Uint8Array,
  places: readonly { key: string; partition?: string; context?: Record<string, string> }[],
): Promise<Outcome> {
  let opened = 0;
  for (const place of places) {
    try {
      await client.decrypt(token, place);
      opened += 1;
    } catch (error) {
      if (!DekdError.is(error, 'DECRYPTION_FAILED') && !DekdError.is(error, 'PERMISSION_DENIED')) {
        throw error;
      }
    }
  }
  return { green: opened === 0, found: `opened in ${plural(opened, 'place')} of ${places.length}` };
}

interface ScanDocument {
  /** Copies of a key in use, found outside the key table. */
  readonly copies: number;
  /** Bytes of memory searched. */
  readonly bytes: number;
}

/** The agent searches its own memory for its keys while it works. Without the protection: a copy left on the heap. */
async function memory(client: DekdClient, key: string, line: CommandLine): Promise<Exhibit> {
  const name = "keys in the agent's memory";
  using admin = await AdminClient.open(line);
  try {
    const clean = await scanWhileBusy(admin, client, key);
    await step(admin, 'plant');
    const leaked = await step(admin, 'scan').finally(() => step(admin, 'clear'));
    return { name, withProtection: outcomeOf(clean), withoutProtection: outcomeOf(leaked) };
  } catch (error) {
    if (!DekdError.is(error, 'UNSUPPORTED')) {
      throw error;
    }
    const exposed = { green: false, found: error.message };
    return { name, withProtection: exposed, withoutProtection: exposed };
  }
}

async function scanWhileBusy(admin: AdminClient, client: DekdClient, key: string): Promise<ScanDocument> {
  const work = keepBusy(client, key);
  try {
    return await step(admin, 'scan');
  } finally {
    await work.stop();
  }
}

function outcomeOf({ copies, bytes }: ScanDocument): Outcome {
  return {
    green: copies === 0,
    found: `${plural(copies, 'copy', 'copies')} of a key outside its slot, in ${byteSize(bytes)} searched`,
  };
}

async function step(admin: AdminClient, name: 'scan' | 'plant' | 'clear'): Promise<ScanDocument> {
  return (await admin.send({ prove: { step: name } })) as ScanDocument;
}

function keepBusy(client: DekdClient, key: string): { stop(): Promise<void> } {
  let busy = true;
  const until = performance.now() + WATCH_MS;
  const items = Array.from({ length: BATCH }, (_, index) => Buffer.from(`value ${index}`));
  const done = (async () => {
    while (busy || performance.now() < until) {
      await client.encryptMany(items, { key });
    }
  })();
  return {
    stop: async () => {
      busy = false;
      await done;
    },
  };
}

function shown({ name, withProtection, withoutProtection }: Exhibit): string {
  return [
    coloured(name, 'bold'),
    `  with the protection:    ${verdict(withProtection)}`,
    `  without it:             ${verdict(withoutProtection)}`,
  ].join('\n');
}

function verdict({ green, found }: Outcome): string {
  return `${green ? coloured('green', 'green') : coloured('red', 'red')}  ${found}`;
}
