/** An engine as the agent and a worker have it between them: one makes keys, the other uses them by their handles. */
import type { Engine } from '../../src/crypto/engine.ts';
import { NativeEngine } from '../../src/crypto/native.ts';
import { NobleEngine } from '../../src/crypto/noble.ts';
import { NodeEngine } from '../../src/crypto/node.ts';
import type { EngineUnderTest } from './engines.ts';

/** What a worker does; everything else is the owner's. */
const WORK = new Set<PropertyKey>([
  'seal',
  'open',
  'sealMany',
  'openMany',
  'macMany',
  'verifyMacMany',
  'sealFrames',
  'openFrames',
]);

/** The same engine, its work done over shared memory; keys that were read are forgotten after each call. */
export function attached(under: EngineUnderTest): EngineUnderTest {
  if (under.missing !== undefined) {
    return under;
  }
  return {
    ...under,
    create(capacity) {
      const size = capacity === undefined ? {} : { capacity };
      const Js = under.name === 'node' ? NodeEngine : NobleEngine;
      const owner = under.name === 'native' ? new NativeEngine() : new Js({ ...size, isShared: true });
      const keys = owner.share()?.keys;
      const worker = keys === undefined ? new NativeEngine() : new Js({ sharedKeys: keys });
      let isClosed = false;
      return new Proxy(owner, {
        get(target, name) {
          if (name === 'close') {
            return () => {
              isClosed = true;
              worker.close();
              target.close();
            };
          }
          const engine: Engine = WORK.has(name) && !isClosed ? worker : target;
          const value = Reflect.get(engine, name, engine) as unknown;
          if (typeof value !== 'function') {
            return value;
          }
          return (...args: readonly unknown[]) => {
            try {
              return Reflect.apply(value, engine, args) as unknown;
            } finally {
              worker.forgetKeys();
            }
          };
        },
      });
    },
  };
}
