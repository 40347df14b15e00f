/**
 * The port for probes, metrics and the page: whether the agent runs, has started, can serve, and its figures. It is the only
 * network socket of an agent, it is there only when `admin.port` says so, and it answers everybody who reaches it; so it reads
 * nothing but a request line and headers, says nothing that is secret, and does no work that a stranger could ask for again
 * and again.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { DekdError } from '../errors.ts';
import { CONTENT_TYPE, type ExpositionFormat } from '../telemetry/exposition.ts';
import type { LiveFigures } from '../telemetry/live-figures.ts';
import type { Metrics } from './metrics.ts';
import { type Readiness, STOPPING, type Verdict } from './readiness.ts';

/** Connections at once; one more ends the oldest, since a probe is over in milliseconds and what lasts is not one. */
const MAX_CONNECTIONS = 64;
const MAX_HEADER_BYTES = 4096;
const MAX_HEADERS = 50;
/** For a whole request, and for its answer. */
const REQUEST_MS = 2_000;
/** How often a port is tried that the agent which is being replaced still has. */
const TAKE_OVER_MS = 500;

/** How often figures are gathered at most. */
const FIGURES_MS = 500;

const ALIVE: Verdict = { ready: true, reasons: [] };
const STARTING: Verdict = { ready: false, reasons: ['the agent is starting'] };

export interface ProbeOptions {
  readonly host: string;
  readonly port: number;
  /** Whether /metrics is answered, and whether the page is. */
  readonly metrics: boolean;
  readonly page: boolean;
  /** Waits for the port instead of failing when it is taken: the agent that is replaced keeps its own until it ends. */
  readonly replace: boolean;
  readonly warn: (warning: string) => void;
}

/** What the port is about, once there is an agent. */
export interface Shown {
  readonly readiness: Pick<Readiness, 'verdict'>;
  readonly metrics: Pick<Metrics, 'text' | 'live'>;
}

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
  /** The policy of a page for its browser. */
  readonly policy?: string;
}

/** What the port says: `starting` until `serving`, and not ready again from `stopping` on. */
export class Probes {
  readonly #server: Server;
  readonly #connections = new Set<Socket>();
  readonly #options: Pick<ProbeOptions, 'metrics' | 'page'>;
  /** Good for a second, whoever asks. */
  #live: { readonly at: number; readonly figures: Promise<LiveFigures> } | undefined;
  #shown: Shown | undefined;
  #isStopping = false;
  #retry: NodeJS.Timeout | undefined;

  /**
   * Listens. Whoever asks before `serving` hears that the agent is starting.
   * @throws CONFLICT or INVALID_ARGUMENT with the remedy when the port cannot be had
   */
  static async open(options: ProbeOptions): Promise<Probes> {
    const probes = new Probes(options);
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

  private constructor(options: Pick<ProbeOptions, 'metrics' | 'page'>) {
    this.#options = options;
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

  serving(shown: Shown): void {
    this.#shown = shown;
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

  async #answer({ method, url = '', headers }: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = url.split('?', 1)[0]!;
    const verdict = this.#question(path);
    const figures = verdict === undefined ? this.#figures(path, headers.accept ?? '') : undefined;
    if (verdict === undefined && figures === undefined) {
      end(response, 404);
      return;
    }
    if (method !== 'GET' && method !== 'HEAD') {
      response.setHeader('allow', 'GET, HEAD');
      end(response, 405);
      return;
    }
    if (figures !== undefined) {
      // What fails here is a defect; whoever asked hears that there is nothing.
      send(response, await figures().catch(() => plain(503, ['the figures cannot be had'])));
      return;
    }
    const { ready, reasons } = await verdict!();
    end(response, ready ? 200 : 503, reasons);
  }

  #figures(path: string, accept: string): (() => Promise<Answer>) | undefined {
    const { metrics, page } = this.#options;
    if (path === '/metrics' && metrics) {
      return async () => {
        if (this.#shown === undefined) {
          return plain(503, STARTING.reasons);
        }
        const format: ExpositionFormat = accept.includes('application/openmetrics-text') ? 'openmetrics' : 'text';
        return { status: 200, type: CONTENT_TYPE[format], body: await this.#shown.metrics.text(format) };
      };
    }
    if (path === '/' && page) {
      return async () => {
        const { STATUS_PAGE, STATUS_PAGE_POLICY } = await import('./status-page.ts');
        return { status: 200, type: 'text/html; charset=utf-8', body: STATUS_PAGE, policy: STATUS_PAGE_POLICY };
      };
    }
    if (path === '/status.json' && page) {
      return async () => {
        if (this.#shown === undefined) {
          return plain(503, STARTING.reasons);
        }
        return { status: 200, type: 'application/json', body: JSON.stringify(await this.#fresh(this.#shown)) };
      };
    }
    return undefined;
  }

  #fresh({ metrics }: Shown): Promise<LiveFigures> {
    const now = performance.now();
    if (this.#live === undefined || now - this.#live.at >= FIGURES_MS) {
      this.#live = { at: now, figures: metrics.live(false) };
    }
    return this.#live.figures;
  }

  #question(path: string): (() => Verdict | Promise<Verdict>) | undefined {
    switch (path) {
      case '/livez':
        // That this runs is the answer: a KMS that is down is no reason to restart an agent that has keys.
        return () => ALIVE;
      case '/startupz':
        return () => (this.#shown === undefined ? STARTING : ALIVE);
      case '/readyz':
        return () => (this.#isStopping ? STOPPING : (this.#shown?.readiness.verdict() ?? STARTING));
      default:
        return undefined;
    }
  }
}

const TITLES: Readonly<Record<number, string>> = {
  200: 'ok',
  404: 'not found: /livez, /readyz and /startupz are, and where they are not switched off /metrics and /',
  405: 'only GET and HEAD',
  417: 'no body is read',
  503: 'not ready',
};

function end(response: ServerResponse, status: number, reasons: readonly string[] = []): void {
  send(response, plain(status, reasons));
}

function plain(status: number, reasons: readonly string[]): Answer {
  const body = `${[TITLES[status], ...reasons].join('\n')}\n`;
  return { status, type: 'text/plain; charset=utf-8', body };
}

function send(response: ServerResponse, { status, type, body, policy }: Answer): void {
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    'cross-origin-resource-policy': 'same-origin',
    ...(policy === undefined ? {} : { 'content-security-policy': policy, 'referrer-policy': 'no-referrer' }),
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
