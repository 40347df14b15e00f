import { Channel, type ChannelLimits } from '../client/channel.ts';
import { connect } from '../client/index.ts';
import { findSocket } from '../client/socket-place.ts';
import type { DekdClient } from '../client/types.ts';
import { AdminClient } from './admin.ts';
import type { CommandLine } from './terminal.ts';

const GREETING_TIMEOUT_MS = 5_000;

/** A client of the agent that the command line names, and what that agent said of itself. */
export interface OpenedClient extends AsyncDisposable {
  readonly client: DekdClient;
  readonly limits: ChannelLimits;
}

/**
 * Greets the agent once before the client is made: the client waits for an agent to come back, which is right in a
 * service, but a person wants to know at once that none is there.
 *
 * @throws AGENT_UNAVAILABLE
 */
export async function openClient(line: CommandLine): Promise<OpenedClient> {
  return await openAt(findSocket(line.socket));
}

/**
 * The same on the admin socket, which answers no other calls than `reencryptStream`, `reencryptFile` and `ping`.
 * @throws as `AdminClient.open` does
 */
export async function openOperator(line: CommandLine): Promise<OpenedClient> {
  using admin = await AdminClient.open(line);
  return await openAt(admin.path);
}

async function openAt(socket: string): Promise<OpenedClient> {
  const channel = await Channel.open(socket, undefined, GREETING_TIMEOUT_MS, () => {});
  channel.close();
  const client = connect({ socket });
  return { client, limits: channel.limits, [Symbol.asyncDispose]: () => client.close() };
}
