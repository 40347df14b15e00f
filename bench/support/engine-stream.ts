/** Sealing of messages by the engine in this process, as the agent does it: what is left when there is no socket. */
import { DATA_KEY_INFO_LENGTH, DATA_KEY_USE, type Engine } from '../../src/crypto/engine.ts';
import { MessageSealing } from '../../src/operations/message-sealing.ts';
import { CONTEXT_BYTES } from './in-process.ts';

const NOTHING = new Uint8Array(0);
const WRAPPED_LENGTH = 48;

/** @returns what seals one message of these pieces and gives back how long it is */
export function engineSealing(engine: Engine, frameLength: number): (pieces: Iterable<Uint8Array>) => number {
  const dataKey = engine.generateKey(DATA_KEY_USE);
  const dataKeys = [
    {
      providerId: 'dekd',
      providerInfo: new Uint8Array(DATA_KEY_INFO_LENGTH),
      ciphertext: new Uint8Array(WRAPPED_LENGTH),
    },
  ];
  return (pieces) => {
    const sealing = new MessageSealing({
      engine,
      dataKey,
      dataKeys,
      context: CONTEXT_BYTES,
      required: NOTHING,
      frameLength,
    });
    let length = sealing.header.length;
    for (const piece of pieces) {
      length += sealing.update(piece).length;
    }
    return length + sealing.end().length;
  };
}
