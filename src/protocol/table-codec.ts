/**
 * Messages by tables instead of generated code: a table of a field takes as many bytes as a line of the code that reads it. The
 * light client has this in the place of `generated/dekd.js`, with tables that its build makes of `dekd.proto`; the protobuf
 * itself is read and written by protobufjs in both. Where every message counts, the generated code is faster.
 */
import { Reader, Writer } from './runtime.ts';

/**
 * When a field is written: unless it has the default of its type, whenever it is set, or once for each of its values; or, whenever
 * it is set, a field of the message's oneof, of which the last that is read is the only one.
 */
export const PRESENCE = { implicit: 0, explicit: 1, repeated: 2, oneOf: 3 } as const;

/** Name in JavaScript, number, type (a scalar of `SCALARS`, or a message of the same tables) and one of `PRESENCE`. */
export type FieldRow = readonly [name: string, number: number, type: string, presence: number];

/** Fields of each message, in the order of their numbers. */
export type MessageTables = Readonly<Record<string, readonly FieldRow[]>>;

const VARINT = 0;
const LENGTH_DELIMITED = 2;

/** The scalar types that there are tables for, and what a field of them has when nothing was said. */
export const SCALARS: Readonly<Record<string, { readonly wire: number; readonly none: unknown }>> = {
  uint32: { wire: VARINT, none: 0 },
  bool: { wire: VARINT, none: false },
  string: { wire: LENGTH_DELIMITED, none: '' },
  bytes: { wire: LENGTH_DELIMITED, none: new Uint8Array(0) },
};

type Fields = Record<string, unknown>;

/** One message; a stand-in for the class that generated code has for it. */
export class TableCodec {
  readonly #rows: readonly FieldRow[];
  readonly #others: Readonly<Record<string, TableCodec>>;

  /** @param others the codecs of the messages that fields may be of */
  constructor(rows: readonly FieldRow[], others: Readonly<Record<string, TableCodec>>) {
    this.#rows = rows;
    this.#others = others;
  }

  /** Fields that are not in the table are left out. */
  encode(fields: object, writer: Writer = Writer.create()): Writer {
    for (const [name, number, type, presence] of this.#rows) {
      const value = (fields as Fields)[name];
      if (value === undefined || value === null) {
        continue;
      }
      if (presence === PRESENCE.repeated) {
        for (const each of value as unknown[]) {
          this.#write(writer, number, type, each);
        }
      } else if (presence !== PRESENCE.implicit || !isNone(value)) {
        this.#write(writer, number, type, value);
      }
    }
    return writer;
  }

  /**
   * @param length of the message in bytes, where the reader has more
   * @param before what was read of the same message already: the last value of a field counts
   * @returns the fields; those that were not there have the default of their type, or are undefined if they need not be there
   * @throws Error and RangeError when the bytes are not the message
   */
  decode(source: Uint8Array | Reader, length?: number, before: object = this.#nothing()): object {
    const message = before as Fields;
    const reader = source instanceof Uint8Array ? new Reader(source) : source;
    const { len } = reader;
    const end = length === undefined ? len : reader.pos + length;
    if (end > len) {
      throw new RangeError('index out of range');
    }
    reader.len = end;
    while (reader.pos < end) {
      const tag = reader.tag();
      const row = this.#rows.find(([, number]) => number === tag >>> 3);
      if (row === undefined || (tag & 7) !== (SCALARS[row[2]]?.wire ?? LENGTH_DELIMITED)) {
        reader.skipType(tag & 7, 0, tag >>> 3);
        continue;
      }
      const [name, , type, presence] = row;
      if (presence === PRESENCE.oneOf) {
        this.#forgetOthers(message, name);
      }
      if (presence === PRESENCE.repeated) {
        (message[name] as unknown[]).push(this.#read(reader, type, undefined));
      } else {
        message[name] = this.#read(reader, type, message[name]);
      }
    }
    reader.len = len;
    return message;
  }

  #write(writer: Writer, number: number, type: string, value: unknown): void {
    writer.uint32((number << 3) | (SCALARS[type]?.wire ?? LENGTH_DELIMITED));
    switch (type) {
      case 'uint32':
        writer.uint32(value as number);
        break;
      case 'bool':
        writer.bool(value as boolean);
        break;
      case 'string':
        writer.string(value as string);
        break;
      case 'bytes':
        writer.bytes(value as Uint8Array);
        break;
      default:
        this.#others[type]!.encode(value as object, writer.fork()).ldelim();
    }
  }

  #read(reader: Reader, type: string, before: unknown): unknown {
    switch (type) {
      case 'uint32':
        return reader.uint32();
      case 'bool':
        return reader.bool();
      case 'string':
        return reader.stringVerify();
      case 'bytes':
        return reader.bytes();
      default:
        return this.#others[type]!.decode(reader, reader.size(), before as object | undefined);
    }
  }

  #forgetOthers(message: Fields, kept: string): void {
    for (const [name, , , presence] of this.#rows) {
      if (presence === PRESENCE.oneOf && name !== kept) {
        delete message[name];
      }
    }
  }

  #nothing(): Fields {
    const fields: Fields = {};
    for (const [name, , type, presence] of this.#rows) {
      if (presence === PRESENCE.implicit) {
        fields[name] = SCALARS[type]!.none;
      } else if (presence === PRESENCE.repeated) {
        fields[name] = [];
      }
    }
    return fields;
  }
}

function isNone(value: unknown): boolean {
  return value === 0 || value === '' || value === false || (value instanceof Uint8Array && value.length === 0);
}

/** A codec for each table, under its name. */
export function codecsOf(tables: MessageTables): Readonly<Record<string, TableCodec>> {
  const codecs: Record<string, TableCodec> = {};
  for (const [name, rows] of Object.entries(tables)) {
    codecs[name] = new TableCodec(rows, codecs);
  }
  return codecs;
}
