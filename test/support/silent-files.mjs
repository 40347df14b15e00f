/**
 * Serves a folder through FUSE in which every name is an empty file, and never answers requests of one kind: whoever makes
 * one waits as long as this process lives. `node silent-files.mjs FOLDER OPCODE`, as root; ends by itself after a while.
 *
 * Layouts and numbers are those of linux/fuse.h.
 */
import { spawnSync } from 'node:child_process';
import { openSync, read, writeSync } from 'node:fs';

const LOOKUP = 1;
const FORGET = 2;
const GETATTR = 3;
const OPEN = 14;
const RELEASE = 18;
const INIT = 26;
const NOT_ANSWERED = new Set([FORGET, 42, Number(process.argv[3])]);
const ENOSYS = -38;
const ROOT = 1;
const FILE = 2;

const device = openSync('/dev/fuse', 'r+');
const options = 'fd=3,rootmode=40000,user_id=0,group_id=0,allow_other';
const { status } = spawnSync('mount', ['-i', '-t', 'fuse', '-o', options, 'silent', process.argv[2]], {
  stdio: ['ignore', 'inherit', 'inherit', device],
});
if (status !== 0) {
  process.exit(1);
}
setTimeout(() => process.exit(0), 30_000);

function answer(operation, node) {
  switch (operation) {
    case INIT: {
      const body = Buffer.alloc(64);
      body.writeUInt32LE(7, 0);
      body.writeUInt32LE(31, 4);
      body.writeUInt32LE(64 * 1024, 20);
      body.writeUInt32LE(1, 24);
      return body;
    }
    case LOOKUP: {
      const body = Buffer.alloc(128);
      body.writeBigUInt64LE(BigInt(FILE), 0);
      attributes(body, 40, FILE);
      return body;
    }
    case GETATTR: {
      const body = Buffer.alloc(104);
      attributes(body, 16, node);
      return body;
    }
    case OPEN:
      return Buffer.alloc(16);
    case RELEASE:
      return Buffer.alloc(0);
    default:
      return undefined;
  }
}

function attributes(body, at, node) {
  body.writeBigUInt64LE(BigInt(node), at);
  body.writeUInt32LE(node === ROOT ? 0o40777 : 0o100666, at + 60);
  body.writeUInt32LE(1, at + 64);
}

const request = Buffer.alloc(128 * 1024);

function serve() {
  read(device, request, 0, request.length, null, (error) => {
    if (error) {
      process.exit(0);
    }
    const operation = request.readUInt32LE(4);
    process.stdout.write(`${operation}\n`);
    if (!NOT_ANSWERED.has(operation)) {
      const body = answer(operation, Number(request.readBigUInt64LE(16)));
      const head = Buffer.alloc(16);
      head.writeUInt32LE(head.length + (body?.length ?? 0), 0);
      head.writeInt32LE(body === undefined ? ENOSYS : 0, 4);
      request.copy(head, 8, 8, 16);
      writeSync(device, Buffer.concat([head, body ?? Buffer.alloc(0)]));
    }
    serve();
  });
}

process.stdout.write('mounted\n');
serve();
