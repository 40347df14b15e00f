import type { AddressInfo } from 'node:net';
import { connect } from 'dekd/client';
import { Drop } from './drop.ts';
import { dropServer } from './server.ts';

const { DROP_FOLDER = 'files', DROP_MAX_BYTES = String(10 * 1024 ** 3), PORT = '3000' } = process.env;

const dekd = connect({ timeoutMs: 5_000 });
const drop = await Drop.open(dekd, DROP_FOLDER, Number(DROP_MAX_BYTES));
const server = dropServer(drop).listen(Number(PORT), '127.0.0.1', () => {
  console.log(`listening at http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, () => {
    server.close(() => void dekd.close());
    server.closeIdleConnections();
  });
}
