/**
 * DynamoDB for tests: dynalite, an emulator that answers the real SDK. It knows no transactions: those are stood in for here, at the
 * HTTP handler of the SDK, by doing their parts one after the other, which shows what is sent, not that it is atomic.
 */
import { once } from 'node:events';
import type { Server } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { DynamoDBClient, type DynamoDBClientConfig } from '@aws-sdk/client-dynamodb';

const dynalite = createRequire(import.meta.url)('dynalite') as (options: Record<string, number>) => Server;

interface Request {
  readonly headers: Record<string, string>;
  body: string | Uint8Array;
}
type Json = Record<string, unknown>;

export class DynamoServer {
  readonly client: DynamoDBClient;
  readonly endpoint: string;
  /** Bodies of requests, as they went over the wire. */
  readonly sent: string[] = [];
  readonly #server: Server;
  readonly #settings: DynamoDBClientConfig;

  private constructor(server: Server, endpoint: string) {
    this.#server = server;
    this.endpoint = endpoint;
    const credentials = { accessKeyId: 'a', secretAccessKey: 's' };
    this.#settings = { endpoint, region: 'eu-central-1', credentials };
    this.client = new DynamoDBClient(this.#settings);
    this.client.middlewareStack.add(
      (next) => async (args) => {
        this.sent.push(textOf((args.request as Request).body));
        return next(args);
      },
      { step: 'finalizeRequest', name: 'recorded' },
    );
  }

  static async start(): Promise<DynamoServer> {
    const server = dynalite({ createTableMs: 0, deleteTableMs: 0, updateTableMs: 0 });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new DynamoServer(server, `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  }

  /** A client whose transactions are stood in for. */
  transacting(): DynamoDBClient {
    const own = new DynamoDBClient(this.#settings);
    const inner = own.config.requestHandler;
    const send = inner.handle.bind(inner) as unknown as (request: Request) => Promise<{ response: Json }>;
    own.config.requestHandler = Object.assign(Object.create(inner), {
      handle: async (request: Request & Json) => {
        const operation = /\.(Transact\w+)$/.exec(request.headers['x-amz-target'] ?? '')?.[1];
        if (operation === undefined) {
          return send(request);
        }
        const sent = textOf(request.body);
        this.sent.push(sent);
        const { TransactItems } = JSON.parse(sent) as { TransactItems: Record<string, Json>[] };
        const responses: Json[] = [];
        let last: { response: Json } | undefined;
        for (const [action, part] of TransactItems.flatMap((item) => Object.entries(item))) {
          const body = JSON.stringify(part);
          const headers = {
            ...request.headers,
            'x-amz-target': `DynamoDB_20120810.${action}Item`,
            'content-length': String(Buffer.byteLength(body)),
          };
          last = await send(Object.assign(Object.create(Object.getPrototypeOf(request)), request, { headers, body }));
          const text = await collected(last.response.body as AsyncIterable<Uint8Array>);
          responses.push(JSON.parse(text) as Json);
        }
        const answer = JSON.stringify(operation === 'TransactGetItems' ? { Responses: responses } : {});
        last!.response.body = Readable.from([Buffer.from(answer)]);
        (last!.response.headers as Record<string, string>) = { 'content-type': 'application/x-amz-json-1.0' };
        return last;
      },
    });
    return own;
  }

  async stop(): Promise<void> {
    this.client.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

function textOf(body: string | Uint8Array): string {
  return typeof body === 'string' ? body : new TextDecoder().decode(body);
}

async function collected(body: AsyncIterable<Uint8Array>): Promise<string> {
  const pieces: Uint8Array[] = [];
  for await (const piece of body) {
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString();
}
