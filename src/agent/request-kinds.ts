/** What each request is counted, logged and observed as. */
import { OPERATION } from '../protocol/request-reader.ts';
import type { CountedOperation } from '../telemetry/counters.ts';
import type { RequestForm } from '../telemetry/observation.ts';

export interface RequestKind {
  readonly operation: CountedOperation;
  readonly form: RequestForm;
}

const UNKNOWN: RequestKind = { operation: 'unknown', form: 'command' };

/** By the number of the operation. */
const KINDS: Readonly<Record<number, RequestKind>> = {
  [OPERATION.hello]: { operation: 'hello', form: 'command' },
  [OPERATION.cancel]: { operation: 'cancel', form: 'command' },
  [OPERATION.ping]: { operation: 'ping', form: 'command' },
  [OPERATION.keyInfo]: { operation: 'keyInfo', form: 'command' },
  [OPERATION.roots]: { operation: 'roots', form: 'command' },
  [OPERATION.rights]: { operation: 'rights', form: 'command' },
  [OPERATION.admin]: { operation: 'admin', form: 'command' },
  [OPERATION.encrypt]: { operation: 'encrypt', form: 'value' },
  [OPERATION.decrypt]: { operation: 'decrypt', form: 'value' },
  [OPERATION.reencrypt]: { operation: 'reencrypt', form: 'value' },
  [OPERATION.encryptMany]: { operation: 'encrypt', form: 'batch' },
  [OPERATION.decryptMany]: { operation: 'decrypt', form: 'batch' },
  [OPERATION.reencryptMany]: { operation: 'reencrypt', form: 'batch' },
  [OPERATION.encryptStream]: { operation: 'encrypt', form: 'stream' },
  [OPERATION.decryptStream]: { operation: 'decrypt', form: 'stream' },
  [OPERATION.reencryptStream]: { operation: 'reencrypt', form: 'stream' },
  [OPERATION.laneEncrypt]: { operation: 'encrypt', form: 'lane' },
  [OPERATION.laneDecrypt]: { operation: 'decrypt', form: 'lane' },
  [OPERATION.fileEncrypt]: { operation: 'encrypt', form: 'file' },
  [OPERATION.fileDecrypt]: { operation: 'decrypt', form: 'file' },
  [OPERATION.hmac]: { operation: 'hmac', form: 'value' },
  [OPERATION.hmacMany]: { operation: 'hmac', form: 'batch' },
  [OPERATION.verifyHmac]: { operation: 'verifyHmac', form: 'value' },
  [OPERATION.verifyHmacMany]: { operation: 'verifyHmac', form: 'batch' },
  [OPERATION.blindIndex]: { operation: 'blindIndex', form: 'batch' },
  [OPERATION.openLegacy]: { operation: 'openLegacy', form: 'batch' },
  [OPERATION.migrateLegacy]: { operation: 'migrateLegacy', form: 'batch' },
};

/** @param operation field number of the request's operation */
export function kindOf(operation: number): RequestKind {
  return KINDS[operation] ?? UNKNOWN;
}
