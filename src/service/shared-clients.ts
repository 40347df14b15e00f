/** Connections to agents, one for all services of the same settings. */
import { type ConnectOptions, connect, type DekdClient } from '../client/index.ts';

interface Shared {
  readonly client: DekdClient;
  users: number;
}

/** A hold on a client. */
export interface ClientHold {
  readonly client: DekdClient;
  /** Gives the hold up: a shared client is closed with the last, once its calls in flight are done. */
  release(): Promise<void>;
}

const shared = new Map<string, Shared>();

/** The client of these settings, connected with its first call. */
export function holdShared(connection: ConnectOptions): ClientHold {
  const id = idOf(connection);
  let entry = shared.get(id);
  if (entry === undefined) {
    entry = { client: connect(connection), users: 0 };
    shared.set(id, entry);
  }
  const held = entry;
  held.users++;
  let isHeld = true;
  return {
    client: held.client,
    async release() {
      if (isHeld) {
        isHeld = false;
        if (--held.users === 0) {
          forget(id, held);
          await held.client.close();
        }
      }
    },
  };
}

/** Nobody gets this client any more; whoever has it keeps it until it lets go. */
export function retire(connection: ConnectOptions): void {
  const id = idOf(connection);
  const entry = shared.get(id);
  if (entry !== undefined) {
    forget(id, entry);
  }
}

function forget(id: string, entry: Shared): void {
  if (shared.get(id) === entry) {
    shared.delete(id);
  }
}

function idOf({ socket, timeoutMs, spawn, token, lane }: ConnectOptions): string {
  return JSON.stringify([
    socket ?? null,
    timeoutMs ?? null,
    spawn ?? false,
    token === undefined ? null : Buffer.from(token).toString('base64'),
    lane ?? true,
  ]);
}
