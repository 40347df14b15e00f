/**
 * A custodian that lies: it answers `describe` and `open` as it should, and every other call in the way that the key
 * context of that call says (`act`), or in the keystore role the name of the keystore. The root `early` makes it
 * misbehave before any call, by the key of its settings.
 */
import { writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const CHANNEL = 3;
const TO_AGENT = 5;

interface Message {
  readonly kind: string;
  readonly id: number;
  readonly operation: string;
  readonly target: string;
  readonly args: { readonly context?: Readonly<Record<string, string>> };
  readonly targets?: { readonly roots?: readonly { readonly name: string; readonly aws: { readonly key: string } }[] };
}

const REFERENCE = { root: 'rogue', resolvedId: 'rogue:1', materialVersion: '1' };
const CAPABILITIES = { nativeContext: false, serverRewrap: true, directLimit: 64, versioned: false };
const DESCRIPTION = { kind: 'rogue', resolvedId: 'rogue:1', materialVersion: '1', warnings: [] };

function raw(bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(CHANNEL, bytes, at);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') {
        throw error;
      }
    }
  }
}

function send(head: unknown, body: Uint8Array = new Uint8Array(0)): void {
  const json = Buffer.from(typeof head === 'string' ? head : JSON.stringify(head));
  const frame = Buffer.alloc(8 + json.length + body.length);
  frame.writeUInt32BE(4 + json.length + body.length, 0);
  frame.writeUInt32BE(json.length, 4);
  json.copy(frame, 8);
  frame.set(body, 8 + json.length);
  raw(frame);
}

function key(id: number, length: number, written = length): void {
  const frame = Buffer.alloc(8 + written, 0x5a);
  frame.writeUInt32BE(id, 0);
  frame.writeUInt32BE(length, 4);
  writeSync(TO_AGENT, frame);
}

function reply(id: unknown, value: unknown = null, body?: Uint8Array): void {
  send({ kind: 'reply', id, value }, body);
}

const ACTS: Readonly<Record<string, (id: number) => void>> = {
  honest: (id) => {
    key(id, 32);
    reply(id);
  },
  'wrapped honestly': (id) => reply(id, REFERENCE, Buffer.alloc(60)),
  'no json': () => send('{"kind":'),
  'json that is no object': () => send('[1,2]'),
  'no kind': () => send({ id: 1 }),
  'ready again': () => send({ kind: 'ready', role: 'provider', protocol: 1 }),
  'a head longer than its message': () => raw(Buffer.from([0, 0, 0, 5, 0, 0, 0, 9, 0x7b])),
  'a message without a head': () => raw(Buffer.from([0, 0, 0, 2, 0, 0])),
  'a message of 4 GiB': () => raw(Buffer.from([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 2, 0x7b])),
  'a message over the limit': () => send({ kind: 'reply', id: 1 }, Buffer.alloc(2 * 1024 * 1024)),
  'an unknown call': (id) => reply(id + 1_000),
  'a call that is no number': () => reply('1'),
  'a negative call': () => reply(-1),
  'the same answer twice': (id) => {
    key(id, 32);
    key(id, 32);
    reply(id);
    reply(id);
  },
  'no frame': (id) => reply(id),
  'a frame of 31 bytes': (id) => {
    key(id, 31);
    reply(id);
  },
  'a frame of 33 bytes': (id) => {
    key(id, 33);
    reply(id);
  },
  'half a frame': (id) => {
    key(id, 32, 16);
    reply(id);
  },
  'the frame of another call': (id) => {
    key(id + 1, 32);
    reply(id);
  },
  'a value where none is': (id) => {
    key(id, 32);
    reply(id, 'W');
  },
  'bytes where none are': (id) => {
    key(id, 32);
    reply(id, null, Buffer.alloc(32));
  },
  'a failure of no known code': (id) => send({ kind: 'failure', id, code: 'OOPS', message: 'x' }),
  'a failure named after what objects have': (id) => send({ kind: 'failure', id, code: 'toString', message: 'x' }),
  'a failure without words': (id) => send({ kind: 'failure', id, code: 'CORRUPT' }),
  'a failure of endless words': (id) => send({ kind: 'failure', id, code: 'CORRUPT', message: 'x'.repeat(100_000) }),
  'a failure to retry never': (id) =>
    send({ kind: 'failure', id, code: 'RATE_LIMITED', message: 'x', retryAfterMs: 1e300 }),
  'a login without a frame': () => send({ kind: 'session', id: 1, root: 'rogue' }),
  'a login for a root of no name': () => send({ kind: 'session', id: 1 }),
  'a login of 4 GiB': () => {
    key(7, 0xffffffff, 8);
    send({ kind: 'session', id: 7, root: 'rogue' });
  },
  'rows without end': (id) => {
    const rows = Array.from({ length: 100_000 }, () => 0);
    for (;;) {
      send({ kind: 'rows', id, rows });
    }
  },
  'a flood': () => {
    for (let id = 0; ; id++) {
      send({ kind: 'session', id, root: 'rogue' });
    }
  },
  'the end of its channel': () => socket.end(),
  'another root': (id) => reply(id, { ...REFERENCE, root: 'other' }, Buffer.alloc(60)),
  'no reference': (id) => reply(id, null, Buffer.alloc(60)),
  'no wrapped bytes': (id) => reply(id, REFERENCE),
  'wrapped bytes without end': (id) => reply(id, REFERENCE, Buffer.alloc(100_000)),
  'an id without end': (id) => reply(id, { ...REFERENCE, resolvedId: 'x'.repeat(10_000) }, Buffer.alloc(60)),
};

const ROW = { kid: '00'.repeat(16), holder: 'h', messages: '1', bytes: '1' };

const KEYSTORE_ACTS: Readonly<Record<string, (id: number, operation: string) => void>> = {
  'rows of no shape': (id) => {
    send({ kind: 'rows', id, rows: [{ kid: 1 }] });
    reply(id);
  },
  'a lease of no shape': (id) => {
    send({ kind: 'rows', id, rows: [ROW, { ...ROW, bytes: 1 }] });
    reply(id);
  },
  'a value for a write': (id) => reply(id, 'stored'),
  'a failure of a provider': (id) => send({ kind: 'failure', id, code: 'KMS_DENIED', message: 'x' }),
  'a frame that nobody reads': (id) => send({ kind: 'session', id, root: 'x' }),
  'an end amid a call': () => process.exit(4),
  silence: () => undefined,
  'honest words': (id, operation) => {
    if (operation === 'leases') {
      send({ kind: 'rows', id, rows: [ROW] });
      send({ kind: 'rows', id, rows: [ROW] });
    }
    reply(id, operation === 'health' ? { ok: true, detail: 'fine' } : null);
  },
};

const EARLY: Readonly<Record<string, () => void | Promise<void>>> = {
  'never ready': () => sleep(60_000),
  'another role': () => send({ kind: 'ready', role: 'keystore', protocol: 1 }),
  'another version': () => send({ kind: 'ready', role: 'provider', protocol: 999 }),
  'a reply first': () => reply(1),
  'an end with words': () => {
    process.stderr.write('cannot start: no such thing\n');
    process.exit(9);
  },
};

function take(message: Message): void {
  if (message.kind === 'begin') {
    const early = message.targets?.roots?.find(({ name }) => name === 'early');
    if (early === undefined) {
      send({ kind: 'ready', role: process.argv[2], protocol: 1 });
    } else {
      void EARLY[early.aws.key]!();
    }
  } else if (message.kind === 'call' && message.operation === 'describe') {
    reply(message.id, { description: DESCRIPTION, capabilities: CAPABILITIES });
  } else if (message.kind === 'call' && message.operation === 'open') {
    reply(message.id, { kind: 'rogue', durable: true, writable: true });
  } else if (message.kind === 'call' && process.argv[2] === 'keystore') {
    KEYSTORE_ACTS[message.target]!(message.id, message.operation);
  } else if (message.kind === 'call') {
    const { act } = message.args.context ?? {};
    if (act !== undefined) {
      ACTS[act]!(message.id);
    }
  } else if (message.kind === 'end') {
    process.exit(0);
  }
}

let pending = Buffer.alloc(0);
const socket = new Socket({ fd: CHANNEL, readable: true, writable: true });
socket.on('error', () => process.exit(1));
socket.on('end', () => process.exit(1));
socket.on('data', (chunk: Buffer) => {
  pending = Buffer.concat([pending, chunk]);
  while (pending.length >= 4 && pending.length >= 4 + pending.readUInt32BE(0)) {
    const length = pending.readUInt32BE(0);
    const head = pending.toString('utf8', 8, 8 + pending.readUInt32BE(4));
    pending = pending.subarray(4 + length);
    take(JSON.parse(head) as Message);
  }
});
