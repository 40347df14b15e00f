// The messages that a client needs, as tables for src/protocol/table-codec.ts.
import { readFileSync } from 'node:fs';
import protobuf from 'protobufjs';

/** What the client writes by hand, because it carries values: see src/client/requests.ts. */
const BY_HAND = [
  ...['encrypt', 'decrypt', 'reencrypt', 'encryptMany', 'decryptMany', 'reencryptMany', 'openLegacy', 'migrateLegacy'],
  ...['hmac', 'verifyHmac', 'hmacMany', 'verifyHmacMany', 'blindIndex', 'streamPart', 'laneEncrypt', 'laneDecrypt'],
];
/** That, what the client reads by hand, and what only the command line says (admin). */
const LEFT_OUT = { Request: [...BY_HAND, 'admin'], Reply: ['laneResult'] };
const ROOTS = ['Request', 'Reply', 'ItemError'];
const SCALARS = ['uint32', 'bool', 'string', 'bytes'];

/**
 * @param file path of dekd.proto
 * @returns { MESSAGE: [[name, number, type, presence]] }, rows by number
 */
export function messageTables(file) {
  const { root } = protobuf.parse(readFileSync(file, 'utf8'));
  const scope = root.resolveAll().lookup('dekd.v1');
  const tables = {};
  const add = (name) => {
    if (name in tables) {
      return;
    }
    const type = scope.lookupType(name);
    if (type.oneofsArray.filter(({ oneof }) => oneof.length > 1).length > 1) {
      throw new Error(`${type.fullName} has two oneofs, which src/protocol/table-codec.ts does not know`);
    }
    const fields = type.fieldsArray.filter((field) => !LEFT_OUT[name]?.includes(field.name));
    tables[name] = fields.toSorted((a, b) => a.id - b.id).map(rowOf);
    for (const { resolvedType } of fields) {
      if (resolvedType !== null) {
        add(resolvedType.name);
      }
    }
  };
  for (const name of ROOTS) {
    add(name);
  }
  return tables;
}

function rowOf(field) {
  if (field.resolvedType === null ? !SCALARS.includes(field.type) : !(field.resolvedType instanceof protobuf.Type)) {
    throw new Error(`${field.fullName} is of the type ${field.type}, which src/protocol/table-codec.ts does not know`);
  }
  if (field.repeated && ['uint32', 'bool'].includes(field.type)) {
    throw new Error(`${field.fullName} is packed, which src/protocol/table-codec.ts does not know`);
  }
  return [field.name, field.id, field.resolvedType?.name ?? field.type, presenceOf(field)];
}

/** Numbers of PRESENCE. */
function presenceOf({ repeated, partOf, resolvedType }) {
  if (repeated) {
    return 2;
  }
  // `optional` is a oneof of a single field.
  if (partOf !== null && partOf.oneof.length > 1) {
    return 3;
  }
  return partOf !== null || resolvedType !== null ? 1 : 0;
}
