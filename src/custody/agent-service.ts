import { Socket } from 'node:net';
import { readFrame, writeFrame } from '../crypto/key-pipe.ts';
import { DekdError } from '../errors.ts';
import { ProviderError } from '../providers/provider-error.ts';
import { withTraceparent } from '../trace.ts';
import { CustodianChannel } from './custodian-channel.ts';
import {
  CUSTODIAN_FD,
  CUSTODIAN_PROTOCOL,
  type CustodianRole,
  type Failure,
  FRAME_AHEAD,
  type FromCustodian,
  ROWS_BYTES,
  type Targets,
  type ToCustodian,
} from './custodian-messages.ts';
import type { Duty, DutyAnswer } from './duty.ts';
import type { OpenProvider } from './provider-duty.ts';
import { SessionOutbox } from './session-outbox.ts';

/**
 * Answers the agent's calls. Ends the process when the agent is gone, says so, or lets it live too long; also when a frame
 * of the key pipe is not what its message says, since from then on none would be.
 * @param open opens providers instead of `openProvider`
 */
export function serveAgent(role: string | undefined, open?: OpenProvider): void {
  if (role !== 'provider' && role !== 'keystore') {
    throw new Error('the role is provider or keystore');
  }
  // Kept by the socket that it listens to.
  new AgentService(role, open);
}

type CallMessage = Extract<ToCustodian, { kind: 'call' }>;

class AgentService {
  readonly #role: CustodianRole;
  readonly #open: OpenProvider | undefined;
  readonly #channel: CustodianChannel;
  readonly #calls = new Map<number, AbortController>();
  readonly #outbox = new SessionOutbox(CUSTODIAN_FD.toAgent, (id, root) => this.#send({ kind: 'session', id, root }));
  #duty: Duty | undefined;
  #limit: NodeJS.Timeout | undefined;

  constructor(role: CustodianRole, open: OpenProvider | undefined) {
    this.#role = role;
    this.#open = open;
    const socket = new Socket({ fd: CUSTODIAN_FD.channel, readable: true, writable: true });
    const gone = () => process.exit(0);
    socket.once('end', gone);
    this.#channel = new CustodianChannel(socket, {
      // Only our own agent is at the other end.
      message: (head, body) => this.#take(head as ToCustodian, body),
      garbage: () => process.exit(70),
      closed: gone,
    });
  }
  #take(message: ToCustodian, body: Uint8Array): void {
    switch (message.kind) {
      case 'begin':
        void this.#begin(message.targets, message.limitMs);
        return;
      case 'call':
        void withTraceparent(message.traceparent ?? '', () => this.#perform(message, body));
        return;
      case 'cancel':
        this.#calls
          .get(message.id)
          ?.abort(new DOMException('the call is over', message.timedOut ? 'TimeoutError' : 'AbortError'));
        return;
      case 'kept':
        this.#outbox.taken(message.id);
        return;
      case 'end':
        void this.#end(message.forget);
    }
  }

  /** Calls come once the agent has heard that it is ready. */
  async #begin(targets: Targets, limitMs: number): Promise<void> {
    const role = this.#role;
    if (targets.role !== role) {
      throw new Error('the agent begins with another role');
    }
    // The libraries of one role are not loaded in the other.
    if (targets.role === 'provider') {
      const { ProviderDuty } = await import('./provider-duty.ts');
      const onPlaintext = () => {
        this.#limit ??= setTimeout(() => process.exit(0), limitMs);
      };
      this.#duty = new ProviderDuty({ roots: targets.roots, outbox: this.#outbox, onPlaintext, open: this.#open });
    } else {
      const { KeystoreDuty } = await import('./keystore-duty.ts');
      this.#duty = new KeystoreDuty(targets.keystores);
    }
    this.#send({ kind: 'ready', role, protocol: CUSTODIAN_PROTOCOL });
  }

  async #perform({ id, target, operation, args }: CallMessage, body: Uint8Array): Promise<void> {
    const frame = FRAME_AHEAD[operation];
    // Before anything is waited for: the frames of the next calls follow.
    const secret = frame && readFrame(CUSTODIAN_FD.fromAgent, id, frame.least, frame.most, operation);
    const controller = new AbortController();
    this.#calls.set(id, controller);
    const { signal } = controller;
    try {
      this.#reply(id, await this.#duty!.perform({ target, operation, args, body, secret, signal }));
    } catch (error) {
      this.#send({ kind: 'failure', id, ...failureOf(error) });
    } finally {
      this.#calls.delete(id);
      secret?.fill(0);
      body.fill(0);
    }
  }

  #reply(id: number, { value = null, body, secret, rows = [] }: DutyAnswer): void {
    let part: object[] = [];
    let length = 0;
    for (const row of rows) {
      const size = JSON.stringify(row).length;
      if (part.length > 0 && length + size > ROWS_BYTES) {
        this.#send({ kind: 'rows', id, rows: part });
        part = [];
        length = 0;
      }
      part.push(row);
      length += size;
    }
    if (part.length > 0) {
      this.#send({ kind: 'rows', id, rows: part });
    }
    if (secret !== undefined) {
      writeFrame(CUSTODIAN_FD.toAgent, id, secret, 'unwrap');
      secret.fill(0);
    }
    this.#send({ kind: 'reply', id, value }, body);
    body?.fill(0);
  }

  #send(message: FromCustodian, body?: Uint8Array): void {
    this.#channel.send(message, body);
  }

  async #end(forget: readonly string[]): Promise<void> {
    await this.#duty?.end(forget);
    process.exit(0);
  }
}

function failureOf(error: unknown): Failure {
  if (error instanceof ProviderError) {
    const { code, message, detail, retryAfterMs } = error;
    return {
      code,
      message,
      ...(detail === undefined ? {} : { detail }),
      ...(retryAfterMs === undefined ? {} : { retryAfterMs: Math.ceil(retryAfterMs) }),
    };
  }
  if (error instanceof DekdError && error.code !== 'INTERNAL') {
    const { code, message, reason, retryAfterMs } = error;
    return {
      code,
      message,
      ...(reason === undefined ? {} : { detail: reason }),
      ...(retryAfterMs === undefined ? {} : { retryAfterMs: Math.ceil(retryAfterMs) }),
    };
  }
  // Only what it is: its message may hold what was worked on.
  return { code: 'INTERNAL', message: error instanceof Error ? error.name : 'not an error' };
}
