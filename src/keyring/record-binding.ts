import { hex } from '../bytes.ts';
import { encodeContext } from '../envelope/context.ts';
import type { KeyRecord } from './record.ts';

/**
 * The bytes that tie a record's wrapped key and its metadata to what the record says of itself.
 *
 * Both are "dekd/v1/record" ‖ the canonical encoding of a map of strings: numbers in decimal, binary in lower hex, and
 * no pair at all for what is empty or absent. The wrap's map is what never changes in the life of a version; the MAC's
 * map adds what does. Outside both are the wrapped secret W, the root reference and the revision, because a provider
 * may move W to another root key without W ever being seen.
 */

/** Label of the key that wraps, derived from the parent secret. */
export const WRAP_LABEL = 'dekd/v1/wrap';
/** Label of the key that authenticates metadata, derived from the parent secret. */
export const META_LABEL = 'dekd/v1/meta';
/** What stands for the parent's kid in a record under a root, so that W moves alone. */
export const ROOT_PARENT = 'root';

const PREFIX = new TextEncoder().encode('dekd/v1/record');

/** The AAD under which the record's key is wrapped. */
export function wrapAad(record: KeyRecord): Uint8Array {
  return prefixed(wrapMap(record));
}

/** The bytes that the record's MAC authenticates. */
export function metaBytes(record: KeyRecord): Uint8Array {
  const map = wrapMap(record);
  put(map, 'state', record.state);
  put(map, 'size', decimal(record.size));
  put(map, 'created', decimal(record.dates.created));
  put(map, 'activated', decimal(record.dates.activated));
  put(map, 'deactivated', decimal(record.dates.deactivated));
  put(map, 'destroyed', decimal(record.dates.destroyed));
  put(map, 'seq', record.seq === 0n ? '' : record.seq.toString());
  return prefixed(map);
}

function wrapMap(record: KeyRecord): Record<string, string> {
  const map = Object.create(null) as Record<string, string>;
  put(map, 'level', decimal(record.level));
  put(map, 'kid', hex(record.kid));
  put(map, 'name', record.name);
  put(map, 'partition', record.partition);
  put(map, 'version', decimal(record.version));
  put(map, 'algorithm', record.algorithm);
  put(map, 'purpose', record.purpose);
  put(map, 'tenant', record.owner.tenant);
  put(map, 'service', record.owner.service);
  put(map, 'node', record.owner.node);
  put(map, 'parent', record.parent.kind === 'root' ? ROOT_PARENT : hex(record.parent.kid));
  for (const [name, value] of Object.entries(record.keyContext)) {
    put(map, `ctx.${name}`, value);
  }
  return map;
}

function put(map: Record<string, string>, name: string, value: string): void {
  if (value !== '') {
    map[name] = value;
  }
}

function decimal(value: number): string {
  return value === 0 ? '' : value.toString(10);
}

function prefixed(map: Record<string, string>): Uint8Array {
  const encoded = encodeContext(map);
  const bytes = new Uint8Array(PREFIX.length + encoded.length);
  bytes.set(PREFIX);
  bytes.set(encoded, PREFIX.length);
  return bytes;
}
