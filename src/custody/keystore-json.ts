/** What keystores take and give besides records, as JSON: seq and counts have 64 bits, and go as decimal strings. */
import { hex } from '../bytes.ts';
import type { UsageLease } from '../keyring/record.ts';
import type { Expectation } from '../keystores/keystore.ts';
import { Garbage, objectOf, textOf } from './untrusted.ts';

export type ExpectationJson = { readonly absent: true } | { readonly seq: string };

export interface LeaseJson {
  readonly kid: string;
  readonly holder: string;
  readonly messages: string;
  readonly bytes: string;
}

const MAX_U64 = 2n ** 64n - 1n;
const MAX_HOLDER = 256;
const KID_LENGTH = 16;

export function expectationJson(expect: Expectation): ExpectationJson {
  return 'absent' in expect ? { absent: true } : { seq: expect.seq.toString() };
}

export function expectationFromJson(expect: ExpectationJson): Expectation {
  return 'absent' in expect ? { absent: true } : { seq: BigInt(expect.seq) };
}

export function leaseJson({ kid, holder, messages, bytes }: UsageLease): LeaseJson {
  return {
    kid: hex(kid),
    holder,
    messages: messages.toString(),
    bytes: bytes.toString(),
  };
}

/** @throws Garbage */
export function leaseFromJson(value: unknown): UsageLease {
  const fields = objectOf(value, 'lease');
  const kid = textOf(fields.kid, 'kid', 2 * KID_LENGTH);
  if (!/^[0-9a-f]{32}$/.test(kid)) {
    throw new Garbage('the kid of a lease is not 16 bytes in hex');
  }
  return {
    kid: new Uint8Array(Buffer.from(kid, 'hex')),
    holder: textOf(fields.holder, 'holder', MAX_HOLDER),
    messages: u64Of(fields.messages, 'messages'),
    bytes: u64Of(fields.bytes, 'bytes'),
  };
}

function u64Of(value: unknown, field: string): bigint {
  const text = textOf(value, field, 20);
  if (!/^(0|[1-9][0-9]*)$/.test(text) || BigInt(text) > MAX_U64) {
    throw new Garbage(`${field} is not a decimal number of 64 bits`);
  }
  return BigInt(text);
}
