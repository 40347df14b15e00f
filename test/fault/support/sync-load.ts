/** A synchronous client at work in a thread, until it is told to stop: `workerData` is a `SyncLoadData`. */
import { isMainThread, parentPort, workerData } from 'node:worker_threads';

export interface SyncLoadData {
  /** Module of the client. */
  readonly client: string;
  readonly socket: string;
  /** [0] is 1 when it shall stop; [1] counts finished calls. */
  readonly shared: Int32Array;
}

if (!isMainThread) {
  const { client, socket, shared } = workerData as SyncLoadData;
  const { connectSync } = (await import(client)) as typeof import('../../../src/client/index.ts');
  const dekd = connectSync({ socket, timeoutMs: 60_000 });
  const failures: string[] = [];
  const large = new Uint8Array(200_000).fill(9);
  for (let round = 0; Atomics.load(shared, 0) === 0; round++) {
    const data = round % 10 === 0 ? large : Buffer.from(`round ${round}`);
    const options = { key: 'sync', context: { round: `${round}` } };
    try {
      const items = dekd.encryptMany([data, data], options);
      const back = dekd.decryptMany(
        items.map((item) => (item.ok ? item.value : new Uint8Array(0))),
        options,
      );
      const one = dekd.decrypt(dekd.encrypt(data, options), options);
      if (
        ![...back.map((item) => (item.ok ? item.value : undefined)), one].every(
          (value) => value && Buffer.from(value).equals(data),
        )
      ) {
        failures.push(`round ${round}: another value`);
      }
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      failures.push(`round ${round}: ${code}: ${message}`);
    }
    Atomics.add(shared, 1, 4);
  }
  dekd.close();
  parentPort!.postMessage(failures);
}
