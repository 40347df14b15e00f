import { hasContextName } from '../envelope/context.ts';
import { DekdError } from '../errors.ts';
import type { DataKey } from '../keyring/keyring.ts';

/** @throws INVALID_ARGUMENT when a plaintext is over the limit; both in bytes */
export function checkPayload(length: number, maxPayload: number): void {
  if (length > maxPayload) {
    throw new DekdError(
      'INVALID_ARGUMENT',
      `value of ${length} bytes is over maxPayload of ${maxPayload}: raise limits.maxPayload (to 16 MiB) or split it`,
    );
  }
}

/** @throws INVALID_ARGUMENT naming the first context field that the key requires and the call does not carry */
export function requireContext(
  key: Pick<DataKey, 'name' | 'requiredContext'>,
  bytes: Uint8Array,
  offset: number,
  length: number,
): void {
  for (const name of key.requiredContext) {
    if (!hasContextName(bytes, offset, length, name)) {
      throw new DekdError('INVALID_ARGUMENT', `key '${key.name}' requires the context field '${name}'`);
    }
  }
}
