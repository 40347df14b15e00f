import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { askAdmin } from '../client/admin-request.ts';
import { Channel } from '../client/channel.ts';
import { socketCandidates } from '../client/socket-place.ts';
import { DekdError } from '../errors.ts';
import type { AdminFields } from '../protocol/messages.ts';
import type { CommandLine } from './terminal.ts';

const GREETING_TIMEOUT_MS = 5_000;

/** The admin socket of an agent: only its own user and root get in. */
export class AdminClient implements Disposable {
  readonly path: string;
  readonly #channel: Channel;

  private constructor(path: string, channel: Channel) {
    this.path = path;
    this.#channel = channel;
  }

  /** @throws AGENT_UNAVAILABLE naming every path tried; PERMISSION_DENIED when the socket is another user's. */
  static async open(line: CommandLine): Promise<AdminClient> {
    const path = findAdminSocket(line);
    try {
      return new AdminClient(path, await Channel.open(path, undefined, GREETING_TIMEOUT_MS, () => {}));
    } catch (error) {
      if (DekdError.is(error, 'AGENT_UNAVAILABLE') && /\b(EACCES|EPERM)\b/.test(error.message)) {
        throw new DekdError(
          'PERMISSION_DENIED',
          `${path} is another user's: the admin socket takes the agent's own user and root`,
        );
      }
      throw error;
    }
  }

  /** Sends one command, never twice; resolves with the document it is answered with. */
  send(command: AdminFields): Promise<unknown> {
    return askAdmin(this.#channel, command);
  }

  [Symbol.dispose](): void {
    this.#channel.close();
  }
}

/** Opens the admin socket for one command. */
export async function administer(line: CommandLine, command: AdminFields): Promise<unknown> {
  using admin = await AdminClient.open(line);
  return await admin.send(command);
}

/** The admin socket beside the first data socket there is; DEKD_ADMIN_PATH where the configuration moved it. */
export function findAdminSocket(line: CommandLine): string {
  const named = process.env.DEKD_ADMIN_PATH;
  const candidates = named ? [named] : socketCandidates(line.socket).map((path) => join(dirname(path), 'admin.sock'));
  const path = candidates.find((candidate) => existsSync(candidate));
  if (path === undefined) {
    throw new DekdError('AGENT_UNAVAILABLE', `no admin socket: tried ${candidates.join(', ')}`);
  }
  return path;
}
