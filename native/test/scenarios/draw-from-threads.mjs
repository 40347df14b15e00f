// Draws random bytes from two threads at once: `draw-from-threads.mjs ADDON`. For addons with a planted defect.
import { createRequire } from 'node:module';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';

const addon = isMainThread ? process.argv[2] : workerData;
const { random } = createRequire(import.meta.url)(addon);

/** For long enough that no thread is done before the others have begun. */
function draw() {
  const out = new Uint8Array(16);
  for (const end = performance.now() + 500; performance.now() < end; ) {
    random(out);
  }
}

if (isMainThread) {
  const workers = [1, 2].map(() => new Worker(new URL(import.meta.url), { workerData: addon }));
  await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('message', resolve))));
  for (const worker of workers) {
    worker.postMessage('go');
  }
  draw();
  await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve))));
} else {
  parentPort.once('message', draw);
  parentPort.postMessage('ready');
}
