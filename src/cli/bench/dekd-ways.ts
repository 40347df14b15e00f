/** The ways of dekd, and of node:crypto in this process, which is what they are compared with. */
import type { DekdClient } from '../../client/types.ts';
import type { Engine } from '../../crypto/engine.ts';
import { TOKEN_OVERHEAD } from '../../crypto/engine.ts';
import { InProcess } from '../../crypto/in-process.ts';
import { encodeContext } from '../../envelope/context.ts';
import { TOKEN_AAD_LENGTH } from '../../envelope/token.ts';
import { DekdError } from '../../errors.ts';
import { count } from '../terminal.ts';
import { inFlight } from './in-flight.ts';
import { batchFor, type Way, widthFor } from './way.ts';

/** Every value is bound to this, and the baseline authenticates as many bytes. */
export const CONTEXT = { field: 'pan' } as const;
const CONTEXT_BYTES = encodeContext(CONTEXT);
/** Batches under way at once: one is worked on while the next is sent. */
const BATCHES = 4;

/** AES-256-GCM of node:crypto in a loop. @throws when it does not open what it sealed */
export function inProcessWay(data: Uint8Array): Way {
  const application = new InProcess(Buffer.concat([Buffer.alloc(TOKEN_AAD_LENGTH, 1), CONTEXT_BYTES]));
  application.check(data);
  return {
    name: 'node:crypto in this process',
    of: 'baseline',
    items: 1,
    width: 1,
    work: (calls) => {
      for (let i = 0; i < calls; i++) {
        application.seal(data);
      }
    },
  };
}

/** The engine of the agent in this process: what is left when there is no socket. No application gets at it. */
export function engineWay(engine: Engine, data: Uint8Array): Way {
  const key = engine.generateKey({ algorithm: 'xaes-256-gcm', purpose: 'seal' });
  const from = CONTEXT_BYTES.length;
  const input = new Uint8Array(from + data.length);
  input.set(CONTEXT_BYTES);
  input.set(data, from);
  const token = new Uint8Array(data.length + TOKEN_OVERHEAD);
  return {
    name: `dekd: ${engine.info.name} engine without a socket`,
    of: 'dekd',
    items: 1,
    width: 1,
    work: (calls) => {
      for (let i = 0; i < calls; i++) {
        engine.seal(key, input, 0, from, from, data.length, token, 0);
      }
    },
  };
}

/**
 * One call at a time, many in flight, and batches, over one connection to the agent.
 * @throws DekdError of the first call; INTERNAL when something does not open to what it was
 */
export async function clientWays(client: DekdClient, key: string, data: Uint8Array): Promise<Way[]> {
  const binding = { key, context: CONTEXT };
  const call = () => client.encrypt(data, binding);
  await checkOpens(client, key, data, await call());
  const width = widthFor(data.length);
  const items = batchFor(data.length);
  const ways: Way[] = [
    {
      name: 'dekd: one call at a time',
      of: 'dekd',
      items: 1,
      width: 1,
      work: (calls) => inFlight(1, calls, call),
      call,
    },
    {
      name: `dekd: ${count(width)} calls in flight`,
      of: 'dekd',
      items: 1,
      width,
      work: (calls) => inFlight(width, calls * width, call),
    },
  ];
  if (items > 1) {
    const values = Array.from({ length: items }, () => data);
    const last = (await client.encryptMany(values, binding)).at(-1);
    if (last === undefined || !last.ok) {
      throw last?.error ?? new DekdError('INTERNAL', 'a batch has no results');
    }
    await checkOpens(client, key, data, last.value);
    ways.push({
      name: `dekd: batches of ${count(items)}`,
      of: 'dekd',
      items,
      width: BATCHES,
      work: (calls) => inFlight(BATCHES, calls * BATCHES, () => client.encryptMany(values, binding)),
    });
  }
  return ways;
}

async function checkOpens(client: DekdClient, key: string, data: Uint8Array, token: Uint8Array): Promise<void> {
  const plain = await client.decrypt(token, { key, context: CONTEXT });
  if (Buffer.compare(plain, data) !== 0) {
    throw new DekdError('INTERNAL', 'the agent does not open what it sealed');
  }
}
