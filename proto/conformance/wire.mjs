// The wire as dekd.proto has it, by reflection: bytes are hexadecimal in JSON, and what has its default is left out.
import { readFileSync } from 'node:fs';
import protobuf from 'protobufjs';

const PROTO = new URL('../dekd.proto', import.meta.url);
const scope = protobuf.parse(readFileSync(PROTO, 'utf8')).root.resolveAll().lookup('dekd.v1');
const Request = scope.lookupType('Request');
const Reply = scope.lookupType('Reply');

/** @throws Error when the bytes are not a request */
export function decodeRequest(body) {
  return Request.decode(body);
}

/** What a message says, as JSON without defaults. */
export function asJson(message) {
  return plain(message.$type.toObject(message, { longs: Number }), message.$type);
}

function plain(value, type) {
  if (value instanceof Uint8Array) {
    return Buffer.from(value).toString('hex');
  }
  if (Array.isArray(value)) {
    return value.map((each) => plain(each, type));
  }
  if (typeof value !== 'object' || value === null) {
    return value;
  }
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, each]) => {
      const field = type.fields[name];
      const said = plain(each, field?.resolvedType ?? type);
      const isDefault = said === '' || said === 0 || said === false || (Array.isArray(said) && said.length === 0);
      return isDefault && field?.partOf === null ? [] : [[name, said]];
    }),
  );
}

/** @param fields of a Reply, bytes in hexadecimal */
export function encodeReply(fields) {
  return Buffer.from(Reply.encode(Reply.fromObject(withBytes(fields, Reply))).finish());
}

function withBytes(fields, type) {
  const of = (field, value) =>
    field.type === 'bytes'
      ? Buffer.from(value, 'hex')
      : field.resolvedType
        ? withBytes(value, field.resolvedType)
        : value;
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => {
      const field = type.fields[name];
      return [name, field.repeated ? value.map((each) => of(field, each)) : of(field, value)];
    }),
  );
}

/** The field `id` of a Reply, and other bytes behind it. */
export function replyWithId(id, rest) {
  return Buffer.concat([encodeReply({ id }), rest]);
}

/** @param length what the prefix says, when that is not the truth */
export function frameOf(body, length = body.length) {
  const prefix = Buffer.alloc(4);
  prefix.writeUInt32BE(length);
  return Buffer.concat([prefix, body]);
}

/** Whether nothing follows field 15 of the operation and of its items, and nothing the operation. */
export function isPayloadLast(body) {
  const reader = protobuf.Reader.create(body);
  let operation;
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag >>> 3 > 2) {
      operation = reader.bytes();
    } else if (operation !== undefined) {
      return false;
    } else {
      reader.skipType(tag & 7);
    }
  }
  return operation === undefined || endsWithPayload(operation);
}

function endsWithPayload(bytes) {
  const reader = protobuf.Reader.create(bytes);
  let isLast = true;
  let wasPayload = false;
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    isLast &&= tag >>> 3 === 15 || !wasPayload;
    wasPayload = tag >>> 3 === 15;
    reader.skipType(tag & 7);
  }
  return isLast;
}
