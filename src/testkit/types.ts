import type { ConnectOptions, DekdClient, DekdSyncClient, SyncConnectOptions } from '../client/index.ts';

export interface TestAgentOptions {
  /**
   * Sections of a configuration file in place of those of a development agent, which may do everything and makes keys on
   * first use: an object by the names of the sections, or the text of such a file in YAML. With a `policy` only that
   * counts; a local root without `keyFile` is drawn at start.
   */
  readonly config?: string | Readonly<Record<string, unknown>> | undefined;
  /** Keeps keys and root in files of the agent's own folder, so that tokens survive `kill` and `restart`; default false. */
  readonly keep?: boolean | undefined;
  /** Variables of the agent, over those of this process; variables that would configure it are not handed down. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** The Node that runs the agent, which needs 24.15; default: the one that runs this. */
  readonly node?: string | undefined;
}

export interface TestKeyOptions {
  readonly partition?: string | undefined;
  /** `seal`, which tokens are made with, or `message`; default `seal` for `rotate`, else every purpose. */
  readonly purpose?: string | undefined;
}

/**
 * An agent of this process alone: a child on a socket in a folder that only this user enters. It ends with `close`, and when
 * this process ends, however that happens; nothing is left of it then.
 */
export interface TestAgent extends AsyncDisposable {
  /** Path of the data socket. */
  readonly socket: string;
  /** Path of the admin socket. */
  readonly admin: string;
  /** For programs that a test starts: `{ ...process.env, ...agent.env }`. */
  readonly env: { readonly DEKD_SOCKET: string };
  /** Of the child that runs, or ran last. */
  readonly pid: number;
  /** A client of it, closed with it. */
  connect(options?: Omit<ConnectOptions, 'socket' | 'spawn'>): DekdClient;
  /** A client that blocks; closed with it. */
  connectSync(options?: Omit<SyncConnectOptions, 'socket' | 'spawn'>): DekdSyncClient;
  /** A new version of a key: what was encrypted under older ones still opens. */
  rotate(key: string, options?: TestKeyOptions): Promise<void>;
  /** Calls that name the key are KEY_DISABLED until it is enabled. */
  disable(key: string, options?: TestKeyOptions): Promise<void>;
  enable(key: string, options?: TestKeyOptions): Promise<void>;
  /** Kills the agent, as the kernel does when memory is short. Clients wait for `restart`, until their deadlines. */
  kill(): Promise<void>;
  /** Stops every thread of the agent where it is: it takes connections and answers nothing. */
  pause(): void;
  resume(): void;
  /** Ends the agent, if it runs, and starts it again on the same socket. What it remembers then, `keep` says. */
  restart(): Promise<void>;
  /** Closes the clients, ends the agent and removes its folder. */
  close(): Promise<void>;
}
