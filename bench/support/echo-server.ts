/** The least a Node server can do: whatever arrives on the socket is sent back. Ends with its standard input. */
import { createServer } from 'node:net';

const server = createServer((socket) => {
  socket.on('data', (chunk) => socket.write(chunk));
  socket.on('error', () => socket.destroy());
});
server.listen(process.argv[2], () => process.stdout.write('listening\n'));
process.stdin.resume().once('end', () => process.exit());
