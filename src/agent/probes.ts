/**
 * The port for probes: whether the agent runs, has started, can serve. It is the only network socket of an agent, it is there
 * only when `admin.port` says so, and it answers everybody who reaches it; so it reads nothing but a request line and headers,
 * says nothing that is secret, and does no work that a stranger could ask for again and again.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { DekdError } from '../errors.ts';
import { type Readiness, STOPPING, type Verdict } from './readiness.ts';

/** Connections at once; one more ends the oldest, since a probe is over in milliseconds and what lasts is not one. */
const MAX_CONNECTIONS = 64;
const MAX_HEADER_BYTES = 4096;
const MAX_HEADERS = 50;
/** For a whole request, and for its answer. */
const REQUEST_MS = 2_000;
/** How often a port is tried that the agent which is being replaced still has. */
const TAKE_OVER_MS = 500;

const ALIVE: Verdict = { ready: true, reasons: [] };
const STARTING: Verdict = { ready: false, reasons: ['the agent is starting'] };

export interface ProbeOptions {
  readonly host: string;
  readonly port: number;
  /** Waits for the port instead of failing when it is taken: the agent that is replaced keeps its own until it ends. */
  readonly replace: boolean;
  readonly warn: (warning: string) => void;
}

/** What the port says: `starting` until `serving`, and not ready again from `stopping` on. */
export class Probes {
  readonly #server: Server;
  readonly #connections = new Set<Socket>();
  #readiness: Readiness | undefined;
  #isStopping = false;
  #retry: NodeJS.Timeout | undefined;

  /**
   * Listens. Whoever asks before `serving` hears that the agent is starting.
   * @throws CONFLICT or INVALID_ARGUMENT with the remedy when the port cannot be had
   */
  static async open(options: ProbeOptions): Promise<Probes> {
    const probes = new Probes();
    try {
      await probes.#listen(options);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE' || !options.replace) {
        throw cannotListen(options, error as NodeJS.ErrnoException);
      }
      options.warn(`port ${options.port} is in use; taken when the agent that has it ends`);
      probes.#takeOver(options);
    }
    return probes;
  }

  private constructor() {
    this.#server = createServer(
      {
        maxHeaderSize: MAX_HEADER_BYTES,
        headersTimeout: REQUEST_MS,
        requestTimeout: REQUEST_MS,
        connectionsCheckingInterval: REQUEST_MS / 4,
      },
      (request, response) => {
        // Answers are short and never fail but by a client that is gone.
        response.on('error', () => {});
        void this.#answer(request, response);
      },
    );
    this.#server.maxHeadersCount = MAX_HEADERS;
    this.#server.timeout = REQUEST_MS;
    this.#server.on('connection', (socket) => this.#connected(socket));
    // Neither a body is invited nor another protocol spoken.
    this.#server.on('checkContinue', (_request, response: ServerResponse) => end(response, 417));
    this.#server.on('checkExpectation', (_request, response: ServerResponse) => end(response, 417));
    this.#server.on('connect', (_request, socket: Socket) => socket.destroy());
  }

  /** The address as it is; undefined while the port belongs to another. */
  get address(): AddressInfo | undefined {
    return (this.#server.address() as AddressInfo | null) ?? undefined;
  }

  serving(readiness: Readiness): void {
    this.#readiness = readiness;
  }

  /** From now on not ready, and still alive. */
  stopping(): void {
    this.#isStopping = true;
  }

  async close(): Promise<void> {
    clearTimeout(this.#retry);
    this.#retry = undefined;
    this.#isStopping = true;
    if (this.#server.listening) {
      await new Promise<void>((resolve) => {
        this.#server.close(() => resolve());
        this.#server.closeAllConnections();
      });
    }
  }

  #listen({ host, port }: ProbeOptions): Promise<void> {
    const server = this.#server;
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host, port }, () => {
        server.removeListener('error', reject);
        // After this an error on the listening socket (EMFILE and its like) is a probe not answered, not a crash.
        server.on('error', () => {});
        resolve();
      });
    });
  }

  #takeOver(options: ProbeOptions): void {
    this.#retry = setTimeout(() => {
      this.#listen(options).catch(() => {
        if (!this.#isStopping) {
          this.#takeOver(options);
        }
      });
    }, TAKE_OVER_MS).unref();
  }

  #connected(socket: Socket): void {
    this.#connections.add(socket);
    socket.once('close', () => this.#connections.delete(socket));
    if (this.#connections.size > MAX_CONNECTIONS) {
      const [oldest] = this.#connections;
      this.#connections.delete(oldest!);
      oldest!.destroy();
    }
  }

  async #answer({ method, url = '' }: IncomingMessage, response: ServerResponse): Promise<void> {
    const verdict = this.#question(url.split('?', 1)[0]!);
    if (verdict === undefined) {
      end(response, 404);
      return;
    }
    if (method !== 'GET' && method !== 'HEAD') {
      response.setHeader('allow', 'GET, HEAD');
      end(response, 405);
      return;
    }
    const { ready, reasons } = await verdict();
    end(response, ready ? 200 : 503, reasons);
  }

  #question(path: string): (() => Verdict | Promise<Verdict>) | undefined {
    switch (path) {
      case '/livez':
        // That this runs is the answer: a KMS that is down is no reason to restart an agent that has keys.
        return () => ALIVE;
      case '/startupz':
        return () => (this.#readiness === undefined ? STARTING : ALIVE);
      case '/readyz':
        return () => (this.#isStopping ? STOPPING : (this.#readiness?.verdict() ?? STARTING));
      default:
        return undefined;
    }
  }
}

const TITLES: Readonly<Record<number, string>> = {
  200: 'ok',
  404: 'not found: /livez, /readyz and /startupz are',
  405: 'only GET and HEAD',
  417: 'no body is read',
  503: 'not ready',
};

function end(response: ServerResponse, status: number, reasons: readonly string[] = []): void {
  const body = `${[TITLES[status], ...reasons].join('\n')}\n`;
  response.writeHead(status, {
    'content-type': 'text/plain; charset=utf-8',
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    connection: 'close',
  });
  response.end(body);
}

function cannotListen({ host, port }: ProbeOptions, error: NodeJS.ErrnoException): DekdError {
  const at = `admin.port ${port} of ${host}`;
  switch (error.code) {
    case 'EADDRINUSE':
      return new DekdError('CONFLICT', `${at} is in use: stop what listens there, or choose another port`, {
        cause: error,
      });
    case 'EACCES':
      return new DekdError('INVALID_ARGUMENT', `${at} needs privileges: choose one from 1024`, { cause: error });
    case 'EADDRNOTAVAIL':
      return new DekdError('INVALID_ARGUMENT', `${at} cannot be had: admin.host is no address of this host`, {
        cause: error,
      });
    default:
      return new DekdError('INVALID_ARGUMENT', `${at} cannot be had: ${error.code ?? error.message}`, { cause: error });
  }
}
