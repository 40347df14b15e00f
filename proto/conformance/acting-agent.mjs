// An agent that does what a case says: it holds no key, and its tokens are whatever the case has in their place.
import { createServer } from 'node:net';
import { isDeepStrictEqual } from 'node:util';
import { asJson, decodeRequest, encodeReply, frameOf, isPayloadLast, replyWithId } from './wire.mjs';

const HELLO = {
  version: 1,
  maxPayload: 1_048_576,
  maxFrame: 1_048_576 + 65_536,
  maxInFlight: 1_024,
  engine: 'native',
  lockLevel: 'secret',
  agent: 'dekd/conformance',
};
const LARGEST_FRAME = 64 * 1024 * 1024;
/** What an item of a batch counts beside its bytes and its context, and what a token has more than its plaintext. */
const ITEM_ALLOWANCE = 80;
const TOKEN_OVERHEAD = 58;

/** What a client did wrong, by a case; the message is for its author. */
export class Violation extends Error {}

export class ActingAgent {
  /** The first thing that went wrong. */
  violation;
  #wake;
  /** Resolves with it. */
  violated = new Promise((resolve) => {
    this.#wake = resolve;
  });
  #server;
  #case;
  #sockets = [];
  #connections = 0;
  #done = 0;

  /** @param scenario a case of the vectors, expanded */
  constructor(scenario) {
    this.#case = scenario;
    this.#server = createServer((socket) => this.#serve(socket, this.#connections++));
  }

  listen(path) {
    return new Promise((resolve) => this.#server.listen(path, resolve));
  }

  close() {
    for (const socket of this.#sockets) {
      socket.destroy();
    }
    return new Promise((resolve) => this.#server.close(resolve));
  }

  /** Steps of the script that no client has asked for. */
  get left() {
    const steps = (this.#case.agent ?? []).flatMap(({ steps = [] }) => steps);
    return steps.filter(({ repeat }) => !repeat).length - this.#done;
  }

  #serve(socket, index) {
    this.#sockets.push(socket);
    socket.on('error', () => {});
    const script = this.#case.agent?.[index];
    if (script === undefined) {
      this.#blame(`connection ${index + 1} is one more than the case has`);
      socket.destroy();
      return;
    }
    const steps = [...(script.steps ?? [])];
    const used = new Set();
    let greeted = false;
    let received = Buffer.alloc(0);
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk]);
      try {
        while (received.length >= 4 && received.length >= 4 + received.readUInt32BE(0)) {
          const body = received.subarray(4, 4 + received.readUInt32BE(0));
          received = received.subarray(4 + body.length);
          const request = decodeRequest(body);
          if (!greeted) {
            greeted = true;
            this.#greet(socket, request, script.hello);
          } else {
            this.#take(socket, request, body, steps, used);
          }
        }
        if (received.length >= 4 && received.readUInt32BE(0) > LARGEST_FRAME) {
          throw new Violation(`a frame says that it has ${received.readUInt32BE(0)} bytes`);
        }
      } catch (error) {
        this.#blame(error instanceof Violation ? error.message : `what was sent is no request: ${error.message}`);
        socket.destroy();
      }
    });
  }

  #greet(socket, request, script) {
    const { hello } = request;
    if (!hello) {
      throw new Violation('the first frame is not a hello');
    }
    if (!(hello.minVersion <= 1 && hello.maxVersion >= 1)) {
      throw new Violation(
        `hello says versions ${hello.minVersion} to ${hello.maxVersion}, and the case is of version 1`,
      );
    }
    const { client, minVersion, maxVersion, ...said } = asJson(hello);
    if (script?.expect !== undefined) {
      same(said, script.expect, 'hello');
    }
    if (script?.send === undefined) {
      socket.write(frameOf(encodeReply({ id: request.id, hello: { ...HELLO, ...this.#case.hello } })));
    } else {
      act(socket, [request.id], script);
    }
  }

  #take(socket, request, body, steps, used) {
    const { id, timeoutMs, ...said } = asJson(request);
    if (said.cancel !== undefined) {
      return;
    }
    if (!id || used.has(id)) {
      throw new Violation(`request id ${id ?? 0} is ${id ? 'in flight, or was, already' : 'not to be used'}`);
    }
    used.add(id);
    if (!isPayloadLast(body)) {
      throw new Violation('field 15 is not the last of its message');
    }
    const longest = Math.max(
      ...this.#case.calls.map((call) => call.timeoutMs ?? this.#case.connect?.timeoutMs ?? 10_000),
    );
    if (timeoutMs > longest) {
      throw new Violation(`timeout_ms is ${timeoutMs}, more than the call has`);
    }
    const step = steps[0];
    if (said.ping !== undefined && step?.expect?.ping === undefined) {
      // A client may ask for a sign of life whenever it likes.
      socket.write(frameOf(encodeReply({ id, document: '7b7d' })));
      return;
    }
    if (step === undefined) {
      throw new Violation(`a request that the case does not have: ${shown(said)}`);
    }
    if (step.repeat) {
      this.#answerMany(socket, id, said, body, step);
      return;
    }
    if (step.collect !== undefined) {
      this.#collect(socket, id, said, steps);
      return;
    }
    steps.shift();
    same(said, step.expect, 'request');
    this.#done += 1;
    act(socket, [id], step);
  }

  /** Takes requests in any order, and answers once all of them have come. */
  #collect(socket, id, said, steps) {
    const { collect, ids = [], ...step } = steps[0];
    const index = collect.findIndex((expect, i) => ids[i] === undefined && isDeepStrictEqual(said, expect));
    if (index < 0) {
      throw new Violation(`the request is ${shown(said)}, and none of ${shown(collect)} that have not come yet`);
    }
    ids[index] = id;
    steps[0] = { collect, ids, ...step };
    if (Object.keys(ids).length === collect.length) {
      steps.shift();
      this.#done += 1;
      act(socket, ids, step);
    }
  }

  /** Answers batches of any cut, whose values are the bytes of the items from behind. */
  #answerMany(socket, id, said, body, { repeat }) {
    const many = said[repeat];
    if (many === undefined) {
      throw new Violation(`${repeat} was wanted, not ${shown(said)}`);
    }
    const { maxPayload, maxFrame } = { ...HELLO, ...this.#case.hello };
    if (body.length > maxFrame) {
      throw new Violation(`a frame of ${body.length} bytes is over maxFrame of ${maxFrame}`);
    }
    const overhead = repeat === 'encryptMany' ? 0 : TOKEN_OVERHEAD;
    const items = many.items ?? [];
    const plain = items.map(({ data = '' }) => Math.max(0, data.length / 2 - overhead));
    const weight = items.reduce((sum, { context = '' }, i) => sum + plain[i] + ITEM_ALLOWANCE + context.length / 2, 0);
    if (items.length === 1 ? plain[0] > maxPayload : weight > maxPayload + ITEM_ALLOWANCE) {
      throw new Violation(`a batch of ${items.length} items weighs ${weight}, over maxPayload of ${maxPayload}`);
    }
    const values = items.map(({ data = '' }) => Buffer.from(data, 'hex').reverse().toString('hex'));
    socket.write(frameOf(encodeReply({ id, many: { values } })));
  }

  #blame(what) {
    this.violation ??= what;
    this.#wake(what);
  }
}

/**
 * Sends what a step says.
 * @param ids of the requests that it answers; a frame is for the first unless it says which, by `to`
 */
function act(socket, ids, { send = [], close = false }) {
  for (const { reply, body, raw, length, otherId, to = 0, pieces } of send) {
    const id = ids[to];
    let bytes;
    if (raw !== undefined) {
      bytes = Buffer.from(raw, 'hex');
    } else if (body !== undefined) {
      bytes = frameOf(replyWithId(id, Buffer.from(body, 'hex')), length);
    } else {
      bytes = frameOf(encodeReply({ id: otherId ?? id, ...reply }));
    }
    if (pieces === undefined) {
      socket.write(bytes);
    } else {
      void drip(socket, bytes, pieces);
    }
  }
  if (close) {
    socket.end();
    socket.destroySoon();
  }
}

/** Writes a few bytes at a time, each in a packet of its own. */
async function drip(socket, bytes, size) {
  socket.setNoDelay?.(true);
  for (let at = 0; at < bytes.length && !socket.destroyed; at += size) {
    await new Promise((resolve) => socket.write(bytes.subarray(at, at + size), resolve));
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function same(said, wanted, what) {
  if (!isDeepStrictEqual(said, wanted)) {
    throw new Violation(`the ${what} is ${shown(said)}, not ${shown(wanted)}`);
  }
}

export function shown(value) {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 400 ? `${text.slice(0, 400)}… (${text.length} characters)` : text;
}
