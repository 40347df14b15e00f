/**
 * A stand-in for MongoDB, which cannot be had from package registries: it speaks the wire protocol to the real driver and Mongoose, and keeps
 * documents in memory. It knows the commands and operators that the tests need, and answers everything else with an error. What it
 * does like MongoDB is what MongoDB's manual says; the same tests run against a server when DEKD_TEST_MONGODB_URL names one.
 */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import mongoose from 'mongoose';
import { matches, NotStoodIn, projected, same, sorted, updated } from './documents.ts';
import { FrameReader, type Json, readRequest, replyTo } from './wire.ts';

const { Long } = mongoose.mongo;

interface Change {
  readonly q: Json;
  readonly u: Json;
  readonly multi?: boolean;
  readonly upsert?: boolean;
  readonly arrayFilters?: unknown;
}

export class MongoServer {
  readonly url: string;
  readonly #server: Server;
  readonly #sockets: Set<Socket>;

  private constructor(server: Server, sockets: Set<Socket>, port: number) {
    this.#server = server;
    this.#sockets = sockets;
    this.url = `mongodb://127.0.0.1:${port}/`;
  }

  static async start(): Promise<MongoServer> {
    const store = new Store();
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      const reader = new FrameReader();
      socket.on('error', () => socket.destroy());
      socket.on('close', () => sockets.delete(socket));
      socket.on('data', (bytes) => {
        for (const frame of reader.take(bytes)) {
          const request = readRequest(frame);
          const reply = answered(store, request.command);
          if (request.isAnswered) {
            socket.write(replyTo(request, reply));
          }
        }
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new MongoServer(server, sockets, (server.address() as AddressInfo).port);
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) {
      socket.destroy();
    }
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

function answered(store: Store, command: Json): Json {
  try {
    return { ...store.answer(command), ok: 1 };
  } catch (error) {
    return { ok: 0, errmsg: (error as Error).message, code: error instanceof NotStoodIn ? 59 : 8 };
  }
}

class Store {
  readonly #collections = new Map<string, Json[]>();
  readonly #cursors = new Map<number, Json[]>();

  answer(command: Json): Json {
    const [name] = Object.keys(command);
    const place = `${command.$db}.${command[name!]}`;
    switch (name) {
      case 'hello':
      case 'isMaster':
      case 'ismaster':
        return {
          helloOk: true,
          isWritablePrimary: true,
          ismaster: true,
          maxBsonObjectSize: 16_777_216,
          maxMessageSizeBytes: 48_000_000,
          maxWriteBatchSize: 100_000,
          minWireVersion: 0,
          maxWireVersion: 21,
          readOnly: false,
        };
      case 'ping':
      case 'endSessions':
      case 'create':
      case 'createIndexes':
      case 'killCursors':
        return {};
      case 'dropDatabase':
        for (const each of this.#collections.keys()) {
          if (each.startsWith(`${command.$db}.`)) {
            this.#collections.delete(each);
          }
        }
        return {};
      case 'insert':
        return this.#insert(place, command.documents as Json[]);
      case 'find': {
        const found = this.#in(place).filter((each) => matches(each, (command.filter ?? {}) as Json));
        const some = sorted(found, command.sort as Json).slice((command.skip as number | undefined) ?? 0);
        const limit = Math.abs((command.limit as number | undefined) ?? 0);
        const documents = limit === 0 ? some : some.slice(0, limit);
        return this.#cursor(
          place,
          documents.map((each) => projected(each, command.projection as Json)),
          (command.batchSize as number | undefined) ?? 101,
        );
      }
      case 'getMore': {
        const id = Number(command.getMore);
        const rest = this.#cursors.get(id);
        if (rest === undefined) {
          throw new Error(`cursor ${id} not found`);
        }
        const batch = rest.splice(0, (command.batchSize as number | undefined) ?? rest.length);
        if (rest.length === 0) {
          this.#cursors.delete(id);
        }
        const cursor = { id: Long.fromNumber(rest.length === 0 ? 0 : id), ns: `${command.$db}.${command.collection}` };
        return { cursor: { ...cursor, nextBatch: batch } };
      }
      case 'aggregate':
        return this.#cursor(place, this.#aggregated(place, command.pipeline as Json[]), 101);
      case 'update':
        return this.#update(place, command.updates as Change[]);
      case 'delete': {
        let n = 0;
        for (const { q, limit } of command.deletes as { q: Json; limit: number }[]) {
          const gone = this.#in(place).filter((each) => matches(each, q));
          for (const document of limit === 1 ? gone.slice(0, 1) : gone) {
            this.#in(place).splice(this.#in(place).indexOf(document), 1);
            n += 1;
          }
        }
        return { n };
      }
      case 'findAndModify':
        return this.#findAndModify(place, command);
      default:
        throw new NotStoodIn(`the command ${name}`);
    }
  }

  #in(place: string): Json[] {
    const documents = this.#collections.get(place) ?? [];
    this.#collections.set(place, documents);
    return documents;
  }

  #insert(place: string, documents: readonly Json[]): Json {
    for (const [index, document] of documents.entries()) {
      if (this.#in(place).some(({ _id }) => same(_id, document._id))) {
        return { n: index, writeErrors: [{ index, code: 11_000, errmsg: 'E11000 duplicate key error' }] };
      }
      this.#in(place).push(document);
    }
    return { n: documents.length };
  }

  #update(place: string, changes: readonly Change[]): Json {
    let n = 0;
    let nModified = 0;
    const upserted: Json[] = [];
    for (const [index, { q, u, multi, upsert, arrayFilters }] of changes.entries()) {
      if (Array.isArray(u) || arrayFilters !== undefined) {
        throw new NotStoodIn('updates by pipelines and array filters');
      }
      const found = this.#in(place).filter((each) => matches(each, q));
      for (const document of multi === true ? found : found.slice(0, 1)) {
        this.#replace(place, document, updated(document, u));
        n += 1;
        nModified += 1;
      }
      if (found.length === 0 && upsert === true) {
        const document = this.#upserted(q, u);
        this.#in(place).push(document);
        upserted.push({ index, _id: document._id });
        n += 1;
      }
    }
    return { n, nModified, ...(upserted.length > 0 ? { upserted } : {}) };
  }

  #findAndModify(place: string, { query, update, remove, upsert, sort, fields, ...command }: Json): Json {
    const [before] = sorted(
      this.#in(place).filter((each) => matches(each, (query ?? {}) as Json)),
      sort as Json,
    );
    const answer = (value: Json | undefined) => (value === undefined ? null : projected(value, fields as Json));
    if (remove === true) {
      if (before !== undefined) {
        this.#in(place).splice(this.#in(place).indexOf(before), 1);
      }
      return { lastErrorObject: { n: before === undefined ? 0 : 1 }, value: answer(before) };
    }
    const isMissing = before === undefined;
    const after = isMissing ? this.#upserted((query ?? {}) as Json, update as Json) : updated(before, update as Json);
    if (!isMissing) {
      this.#replace(place, before, after);
    } else if (upsert === true) {
      this.#in(place).push(after);
    } else {
      return { lastErrorObject: { n: 0, updatedExisting: false }, value: null };
    }
    return {
      lastErrorObject: { n: 1, updatedExisting: !isMissing },
      value: answer(command.new === true ? after : before),
    };
  }

  #replace(place: string, before: Json, after: Json): void {
    this.#in(place)[this.#in(place).indexOf(before)] = after;
  }

  #upserted(filter: Json, update: Json): Json {
    const named = Object.entries(filter).filter(([name, value]) => {
      const isPlain = Object.getPrototypeOf(value ?? null) !== Object.prototype;
      return !name.startsWith('$') && !name.includes('.') && isPlain;
    });
    return updated({ _id: new mongoose.Types.ObjectId(), ...Object.fromEntries(named) }, update, true);
  }

  #aggregated(place: string, pipeline: readonly Json[]): Json[] {
    let documents = [...this.#in(place)];
    for (const stage of pipeline) {
      const [[name, value]] = Object.entries(stage) as [[string, never]];
      switch (name) {
        case '$match':
          documents = documents.filter((each) => matches(each, value));
          break;
        case '$sort':
          documents = sorted(documents, value);
          break;
        case '$limit':
          documents = documents.slice(0, value);
          break;
        case '$skip':
          documents = documents.slice(value);
          break;
        case '$group':
          // What the driver counts documents with.
          if (!same(value, { _id: 1, n: { $sum: 1 } })) {
            throw new NotStoodIn('$group for anything but a count');
          }
          documents = documents.length === 0 ? [] : [{ _id: 1, n: documents.length }];
          break;
        default:
          throw new NotStoodIn(`the stage ${name}`);
      }
    }
    return documents;
  }

  #cursor(place: string, documents: Json[], size: number): Json {
    const firstBatch = documents.slice(0, size);
    const rest = documents.slice(size);
    const id = rest.length === 0 ? 0 : 1 + Math.max(0, ...this.#cursors.keys());
    if (id !== 0) {
      this.#cursors.set(id, rest);
    }
    return { cursor: { id: Long.fromNumber(id), ns: place, firstBatch } };
  }
}
