/**
 * The collection of a model, between Mongoose and the driver: everything that Mongoose sends goes through its methods, cast and
 * ready, and everything that it hydrates comes out of them. So documents in memory have plaintexts only, and what they know
 * of what was modified is true.
 */
import type { DocumentCipher, LooseDocument } from '../document-cipher.ts';
import type { EncryptedPath, QueryCheck } from './queries.ts';
import { idOf, Writes } from './writes.ts';

// biome-ignore lint/suspicious/noExplicitAny: methods of the driver, whatever they take; nothing of it is in a public type.
type Method = (...args: any[]) => any;
export type AnyCollection = Record<string, Method>;
type Options = LooseDocument | undefined;

/** Methods that a driver could have which neither encrypt nor look at what they are given. */
const UNREAD = [
  'initializeOrderedBulkOp',
  'initializeUnorderedBulkOp',
  'watch',
  'mapReduce',
  'group',
  'findAndModify',
  'insert',
  'update',
  'remove',
  'save',
] as const;

export function encryptCollection(
  collection: AnyCollection,
  cipher: DocumentCipher,
  check: QueryCheck,
  paths: readonly EncryptedPath[],
): void {
  const raw = Object.create(collection) as AnyCollection;
  const writes = () => new Writes(cipher, check, paths);
  const methods: AnyCollection = {
    async insertOne(document: LooseDocument, options: Options) {
      const some = writes();
      const sent = some.document(document);
      await some.run();
      return raw.insertOne!(sent, options);
    },
    async insertMany(documents: LooseDocument[], options: Options) {
      const some = writes();
      const sent = documents.map((document) => some.document(document));
      await some.run();
      return raw.insertMany!(sent, options);
    },
    async bulkWrite(operations: Record<string, LooseDocument>[], options: Options) {
      const some = writes();
      const sent = operations.map((operation) =>
        Object.fromEntries(Object.entries(operation).map(([name, part]) => [name, bulked(some, name, part)])),
      );
      await some.run();
      return raw.bulkWrite!(sent, options);
    },
    find(filter: unknown, options: Options) {
      checkRead(filter, options);
      const cursor = raw.find!(filter, options);
      return isPromise(cursor) ? cursor.then(opening) : opening(cursor);
    },
    aggregate(pipeline: unknown[], options: Options) {
      check.pipeline(pipeline);
      const cursor = raw.aggregate!(pipeline, options);
      return isPromise(cursor) ? cursor.then(opening) : opening(cursor);
    },
    async findOne(filter: unknown, options: Options) {
      checkRead(filter, options);
      return openOne(await raw.findOne!(filter, options));
    },
    async distinct(path: string, filter: unknown, options: Options) {
      check.names([path], 'distinct');
      check.filter(filter);
      return raw.distinct!(path, filter, options);
    },
    async findOneAndReplace(filter: unknown, replacement: LooseDocument, options: Options) {
      checkRead(filter, options);
      const some = writes();
      const sent = some.document(replacement, replacement._id ?? idOf(filter));
      await some.run();
      return openResult(await raw.findOneAndReplace!(filter, sent, options));
    },
    async replaceOne(filter: unknown, replacement: LooseDocument, options: Options) {
      check.filter(filter);
      const some = writes();
      const sent = some.document(replacement, replacement._id ?? idOf(filter));
      await some.run();
      return raw.replaceOne!(filter, sent, options);
    },
    async findOneAndDelete(filter: unknown, options: Options) {
      checkRead(filter, options);
      return openResult(await raw.findOneAndDelete!(filter, options));
    },
    async findOneAndUpdate(filter: unknown, update: unknown, options: Options) {
      checkRead(filter, options);
      check.arrayFilters(options?.arrayFilters);
      const some = writes();
      const sent = some.update(filter, update);
      await some.run();
      return openResult(await raw.findOneAndUpdate!(filter, sent, options));
    },
  };
  for (const name of ['updateOne', 'updateMany']) {
    methods[name] = async (filter: unknown, update: unknown, options: Options) => {
      check.filter(filter);
      check.arrayFilters(options?.arrayFilters);
      const some = writes();
      const sent = some.update(filter, update);
      await some.run();
      return raw[name]!(filter, sent, options);
    };
  }
  for (const name of ['deleteOne', 'deleteMany', 'countDocuments', 'count']) {
    methods[name] = async (filter: unknown, options: Options) => {
      check.filter(filter);
      return raw[name]!(filter, options);
    };
  }
  for (const name of UNREAD) {
    methods[name] = () => {
      throw check.invalid(`${name} is not read here, and could see or write values as they are`);
    };
  }
  for (const [name, method] of Object.entries(methods)) {
    const before = collection[name];
    if (before === undefined && !UNREAD.includes(name as never)) {
      continue;
    }
    // What waits for a connection calls its method again, by name, on itself.
    raw[name] = before as Method;
    collection[name] = method;
  }
  raw._getCollection = () => collection._getCollection!();

  function checkRead(filter: unknown, options: Options): void {
    check.filter(filter);
    check.sort(options?.sort);
    check.projection(options?.projection);
  }

  function bulked(some: Writes, name: string, part: LooseDocument): unknown {
    if (part.filter !== undefined) {
      check.filter(part.filter);
    }
    check.arrayFilters(part.arrayFilters);
    switch (name) {
      case 'insertOne':
        return { ...part, document: some.document(part.document as LooseDocument) };
      case 'replaceOne': {
        const replacement = part.replacement as LooseDocument;
        return { ...part, replacement: some.document(replacement, replacement._id ?? idOf(part.filter)) };
      }
      case 'updateOne':
      case 'updateMany':
        return { ...part, update: some.update(part.filter, part.update) };
      case 'deleteOne':
      case 'deleteMany':
        return part;
      default:
        throw check.invalid(`'${name}' of a bulk write is not known here`);
    }
  }

  async function openOne(document: LooseDocument | null): Promise<LooseDocument | null> {
    return document === null ? null : (await cipher.open([document]))[0]!;
  }

  /** A document, or one with what became of it around. */
  async function openResult(result: LooseDocument | null): Promise<unknown> {
    if (result !== null && 'lastErrorObject' in result && 'value' in result) {
      return { ...result, value: await openOne(result.value as LooseDocument | null) };
    }
    return openOne(result);
  }

  /** A cursor whose documents are opened as the driver gets them, a batch at a time. */
  function opening(cursor: AnyCollection): AnyCollection {
    const driver = Object.getPrototypeOf(cursor) as AnyCollection;
    const call = (name: string, ...args: unknown[]) => driver[name]!.apply(cursor, args);
    let ready: LooseDocument[] = [];
    const fill = async (first: LooseDocument | null): Promise<LooseDocument | null> => {
      if (first === null) {
        return null;
      }
      ready = await cipher.open([first, ...call('readBufferedDocuments')]);
      return ready.shift()!;
    };
    const next = async () => ready.shift() ?? fill(await call('next'));
    const each = async function* () {
      for (let document = await next(); document !== null; document = await next()) {
        yield document;
      }
    };
    return Object.assign(cursor, {
      next,
      tryNext: async () => ready.shift() ?? fill(await call('tryNext')),
      hasNext: async () => ready.length > 0 || call('hasNext'),
      toArray: async () => {
        const opened = ready;
        const rest: LooseDocument[] = [];
        for (let first = await call('next'); first !== null; first = await call('next')) {
          rest.push(first, ...call('readBufferedDocuments'));
        }
        ready = [];
        return [...opened, ...(await cipher.open(rest))];
      },
      forEach: async (visit: (document: LooseDocument) => unknown) => {
        for await (const document of each()) {
          if (visit(document) === false) {
            break;
          }
        }
      },
      readBufferedDocuments: (count?: number) => ready.splice(0, count ?? ready.length),
      rewind: () => {
        ready = [];
        call('rewind');
      },
      [Symbol.asyncIterator]: each,
      ...Object.fromEntries(
        ['stream', 'map', 'clone'].map((name) => [
          name,
          () => {
            throw check.invalid(`${name} of the driver's cursor would give values as they are stored`);
          },
        ]),
      ),
    }) as unknown as AnyCollection;
  }
}

function isPromise(value: unknown): value is Promise<AnyCollection> {
  return typeof (value as { then?: unknown } | undefined)?.then === 'function';
}
