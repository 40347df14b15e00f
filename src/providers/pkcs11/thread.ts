/** A thread that calls one PKCS#11 library, in the order it is asked. Started by module-thread.ts. */
import { parentPort, workerData } from 'node:worker_threads';
import { type Cryptoki, CryptokiError, ModuleLoadError } from './cryptoki.ts';
import { LoadedModule } from './loaded-module.ts';
import type { ThreadReply, ThreadRequest } from './module-thread.ts';

const { path } = workerData as { readonly path: string };
const port = parentPort!;
const loading = LoadedModule.load(path);
// Whoever asks first hears of it.
loading.catch(() => {});

port.on('message', (request: ThreadRequest | 'exit') => {
  if (request === 'exit') {
    port.close();
    return;
  }
  loading.then(
    (module) => answer(module, request),
    (error: unknown) => reply({ id: request.id, ...faultOf(error) }),
  );
});

function answer(module: Cryptoki, { id, name, args }: ThreadRequest): void {
  const secrets = args.filter((each) => each instanceof Uint8Array);
  try {
    const call = module[name] as (...args: readonly unknown[]) => unknown;
    reply({ id, value: call.apply(module, [...args]) });
  } catch (error) {
    reply({ id, ...faultOf(error) });
  } finally {
    for (const secret of secrets) {
      secret.fill(0);
    }
  }
}

function reply(answer: ThreadReply): void {
  const { value } = answer;
  port.postMessage(answer, value instanceof Uint8Array ? [value.buffer as ArrayBuffer] : []);
}

function faultOf(error: unknown): Pick<ThreadReply, 'rv' | 'call' | 'load' | 'text'> {
  if (error instanceof CryptokiError) {
    return { rv: error.rv, call: error.call };
  }
  if (error instanceof ModuleLoadError) {
    return { load: error.fault };
  }
  return { text: error instanceof Error ? error.message : String(error) };
}
