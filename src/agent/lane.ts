/**
 * The bulk lane: memory that clients share with the agent, so that large values need not pass the socket.
 *
 * A second socket, because descriptors come only to whoever reads with recvmsg, and libuv drops them. What comes there is
 * joined to a connection of the data socket by the token that this was greeted with, once, and only from the same uid.
 */
import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { totalmem } from 'node:os';
import { basename } from 'node:path';
import type { Config } from '../config/config.ts';
import type { LaneMemory, Region } from '../crypto/lane.ts';
import { FilePass } from '../crypto/lane-files.ts';
import { DekdError } from '../errors.ts';
import type { LaneEnvironment } from '../operations/lane.ts';
import type { HelloReplyFields } from '../protocol/messages.ts';
import type { Log } from '../telemetry/log.ts';
import { LaneAccount } from './lane-account.ts';
import { LaneJoin } from './lane-join.ts';
import { MAX_LOOKS, MAX_PASSED, MAX_WAITING } from './lane-limits.ts';
import { LaneSeat } from './lane-seat.ts';
import type { Listener } from './listener.ts';
import type { PeerCredentials } from './peer.ts';

/** Of the memory that the agent may have, as much may be that of clients; and of that, one caller's half. */
const BUDGET_SHARE = 0.25;
const CALLER_SHARE = 0.5;
/** Regions larger than this nobody needs; their sizes and offsets stay below 2^32. */
const MAX_REGION = 1024 * 1024 * 1024;
/** Regions of all connections: a process may have some 65,000 mappings, and of its own has few. */
const MAX_REGIONS = 8192;
/** How long a client waits for that. */
const LOOK_MS = 2_000;
/** How long private memory is kept that opening has used. */
const MEMORY_IDLE_MS = 1_000;

export interface LaneOptions {
  readonly config: Config;
  readonly memory: LaneMemory;
  readonly credentials: PeerCredentials;
  /** For what callers can cause, so of limited rate. */
  readonly log: Log;
}

/** What a lane connection is answered. */
export interface LaneAnswer {
  readonly handle?: number;
  readonly token: Uint8Array;
  readonly error?: DekdError;
}

export interface LaneStanding {
  /** Whether clients can join. */
  readonly open: boolean;
  /** Bytes that all regions may have, and have. */
  readonly budget: number;
  readonly heldBytes: number;
  /** Files that were passed and that no call has named yet. */
  readonly waitingFiles: number;
}

export class Lane {
  /** What operations work with. */
  readonly environment: LaneEnvironment;
  readonly #options: LaneOptions;
  readonly #budget: number;
  readonly #callerBudget: number;
  /** Seats by the token that joins them next. */
  readonly #seats = new Map<string, LaneSeat>();
  readonly #joins = new Set<LaneJoin>();
  /** Bytes of regions, their number, and files that were passed and not named yet; by caller. */
  readonly #bytes = new LaneAccount();
  readonly #regions = new LaneAccount();
  readonly #passed = new LaneAccount();
  #idle: NodeJS.Timeout | undefined;
  readonly #listeners: Listener[] = [];

  constructor(options: LaneOptions) {
    this.#options = options;
    const { lane } = options.config;
    const limit = Math.floor(memoryLimit() * BUDGET_SHARE);
    this.#budget = Math.min(limit, lane.budget ?? limit);
    this.#callerBudget = Math.min(this.#budget, lane.callerBudget ?? Math.floor(this.#budget * CALLER_SHARE));
    this.environment = { memory: options.memory, maxPayload: lane.maxPayload };
  }

  /** Bytes that all regions together may have. */
  get budget(): number {
    return this.#budget;
  }

  /** Takes connections from `listen` of one lane socket. @throws as it does */
  async open(listen: (accept: (socket: Socket) => void) => Promise<Listener>): Promise<void> {
    this.#listeners.push(await listen((socket) => this.#accept(socket)));
  }

  /** How much of the lane is in use, for health. */
  standing(): LaneStanding {
    const { adopted } = this.#options.memory;
    return { open: this.isOpen, budget: this.#budget, heldBytes: adopted, waitingFiles: this.#passed.total };
  }

  /** Whether clients can join. */
  get isOpen(): boolean {
    return this.#listeners.length > 0;
  }

  stopListening(): void {
    for (const listener of this.#listeners.splice(0)) {
      listener.stop();
    }
    for (const join of this.#joins) {
      join.end();
    }
  }

  /** A place in the lane for a connection of the data socket, until it is closed. */
  seat(share: string, uid: number): LaneSeat {
    return new LaneSeat(this, share, uid);
  }

  /** What a greeting says of the lane; the token in it is good for one join. */
  offer(seat: LaneSeat): HelloReplyFields {
    if (!this.isOpen) {
      return {};
    }
    return {
      laneToken: this.#newToken(seat),
      laneMaxPayload: this.environment.maxPayload,
      laneRegionLimit: this.#regionLimit(seat.share),
      laneSocket: basename(this.#options.config.lane.path),
    };
  }

  /** The seat is empty: its token joins nothing, and its regions end with the last job in them. */
  leave(seat: LaneSeat, regions: Iterable<{ readonly region: Region; readonly size: number }>): void {
    this.#seats.delete(seat.token);
    for (const { region, size } of regions) {
      this.#options.memory.drop(region);
      this.#bytes.add(seat.share, -size);
      this.#regions.add(seat.share, -1);
    }
  }

  /** Files of a seat were passed, or are not any more. */
  countPassed(share: string, files: number): void {
    this.#passed.add(share, files);
  }

  /** Private memory was used; it is given back when it has not been for a while. */
  used(): void {
    if (this.#idle === undefined) {
      this.#idle = setTimeout(() => {
        this.#idle = undefined;
        this.#options.memory.release();
      }, MEMORY_IDLE_MS);
      this.#idle.unref();
    } else {
      this.#idle.refresh();
    }
  }

  #accept(socket: Socket): void {
    const { config, credentials, log } = this.#options;
    if (this.#joins.size >= MAX_WAITING) {
      log.warn('lane connection refused', { code: 'RESOURCE_EXHAUSTED', limit: MAX_WAITING });
      socket.destroy();
      return;
    }
    const join = new LaneJoin(socket, {
      take: (fd) => this.#take(fd, () => credentials(fd)?.uid),
      timeoutMs: config.limits.headerTimeout,
      refused: (error) =>
        log.warn('lane connection refused', { code: error.code, reason: error.reason ?? error.message }),
      done: () => this.#joins.delete(join),
    });
    this.#joins.add(join);
    join.begin();
  }

  /**
   * Who has sent a greeting is known before its descriptors are taken: closing one may mean to wait for its file system.
   * @throws UNAUTHENTICATED, one text for every reason, for a token that joins nothing; RESOURCE_EXHAUSTED
   */
  #take(fd: number, uidOf: () => number | undefined): Promise<LaneAnswer> | LaneAnswer | undefined {
    const { memory } = this.#options;
    const said = memory.peek(fd);
    if (said === undefined) {
      return undefined;
    }
    const seat = this.#seats.get(tokenKey(said));
    if (seat === undefined) {
      throw notJoined('the token is unknown, or was used before');
    }
    const uid = uidOf();
    if (uid === undefined || seat.uid !== uid) {
      throw notJoined(`the token is of uid ${seat.uid}, and came from uid ${uid ?? 'unknown'}`);
    }
    const token = this.#newToken(seat);
    if (memory.waiting >= MAX_LOOKS) {
      const error = new DekdError('RESOURCE_EXHAUSTED', `${MAX_LOOKS} files wait for their file systems to answer`);
      return { token, error };
    }
    const { kind, descriptors } = memory.receive(fd, said);
    return kind === 'region'
      ? { token, ...this.#takeRegion(descriptors[0]!, seat) }
      : this.#takeFiles(descriptors[0]!, descriptors[1]!, seat).then((taken) => ({ token, ...taken }));
  }

  /** Owns the descriptors. */
  async #takeFiles(source: number, target: number, seat: LaneSeat): Promise<Omit<LaneAnswer, 'token'>> {
    try {
      const files = await within(LOOK_MS, FilePass.open(source, target));
      if (this.#passed.total >= MAX_PASSED || this.#passed.of(seat.share) >= MAX_PASSED / 2) {
        files.close();
        throw new DekdError(
          'RESOURCE_EXHAUSTED',
          `${MAX_PASSED} files, half of them of one caller, may be passed before a call names them`,
        );
      }
      return { handle: seat.addFiles(files, this.#options.config.limits.headerTimeout) };
    } catch (error) {
      return { error: DekdError.from(error) };
    }
  }

  /** Owns the descriptor. */
  #takeRegion(descriptor: number, seat: LaneSeat): Omit<LaneAnswer, 'token'> {
    const { memory } = this.#options;
    try {
      seat.checkRoom();
      if (this.#regions.total >= MAX_REGIONS || this.#regions.of(seat.share) >= MAX_REGIONS / 2) {
        throw new DekdError(
          'RESOURCE_EXHAUSTED',
          `the agent has room for ${MAX_REGIONS} regions, half of them of one caller: share fewer and larger ones`,
        );
      }
      const limit = this.#regionLimit(seat.share);
      const adopted = memory.adopt(descriptor, limit);
      if (adopted === undefined) {
        throw new DekdError(
          'RESOURCE_EXHAUSTED',
          `the region is empty or larger than the ${limit} bytes that are left: all regions may have ${this.#budget} ` +
            `(lane.budget), those of one caller ${this.#callerBudget} (lane.callerBudget)`,
        );
      }
      this.#bytes.add(seat.share, adopted.size);
      this.#regions.add(seat.share, 1);
      return { handle: seat.add(adopted) };
    } catch (error) {
      return { error: DekdError.from(error) };
    } finally {
      memory.close(descriptor);
    }
  }

  #regionLimit(share: string): number {
    const left = Math.min(
      this.#budget - this.#options.memory.adopted,
      this.#callerBudget - this.#bytes.of(share),
      MAX_REGION,
    );
    return Math.max(0, left);
  }

  #newToken(seat: LaneSeat): Uint8Array {
    this.#seats.delete(seat.token);
    const token = randomBytes(32);
    seat.token = tokenKey(token);
    this.#seats.set(seat.token, seat);
    return token;
  }
}

function tokenKey(token: Uint8Array): string {
  return Buffer.from(token.buffer, token.byteOffset, token.byteLength).toString('latin1');
}

/** Files that are looked at too late are let go of. @throws UNSUPPORTED */
function within(ms: number, looking: Promise<FilePass>): Promise<FilePass> {
  return new Promise((resolve, reject) => {
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      reject(new DekdError('UNSUPPORTED', `the file system has not answered for ${ms} ms: send a stream`));
    }, ms);
    looking.then(
      (files) => {
        clearTimeout(timer);
        if (isLate) {
          files.close();
        } else {
          resolve(files);
        }
      },
      (error: unknown) => {
        clearTimeout(timer);
        reject(error);
      },
    );
  });
}

function notJoined(reason: string): DekdError {
  return new DekdError('UNAUTHENTICATED', 'the token joins no connection', { reason });
}

/** Bytes of memory this process may have: what its control group says, and what the machine has. */
function memoryLimit(): number {
  const constrained = process.constrainedMemory();
  return constrained > 0 ? Math.min(constrained, totalmem()) : totalmem();
}
