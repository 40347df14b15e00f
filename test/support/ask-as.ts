/** Requests over a real socket as another user; needs root. */
import { spawn } from 'node:child_process';
import { messages, type RequestFields } from '../../src/protocol/messages.ts';
import { NODE } from './agent.ts';
import { HELLO, type RawReply, requestFrame } from './raw-client.ts';

/** Connects as another user, sends what standard input says, prints all that comes back until the agent ends. */
const CLIENT = `
const s = require('node:net').connect(process.argv[1]);
const out = [];
s.on('connect', () => { const i = []; process.stdin.on('data', (d) => i.push(d)).on('end', () => s.end(Buffer.concat(i))); });
s.on('data', (d) => out.push(d));
s.on('error', (e) => { process.stderr.write(e.code); });
s.on('close', () => process.stdout.write(Buffer.concat(out)));
`;

/** Who a client is; without groups it has none beside its gid. */
export interface Identity {
  readonly uid: number;
  readonly gid: number;
  readonly groups?: readonly number[];
}

/** Replies to requests sent as somebody else, by id; or the code of the error that kept it from connecting. */
export async function askAs(
  { uid, gid, groups }: Identity,
  socket: string,
  requests: readonly RequestFields[],
  /** What runs the client, e.g. `unshare -pf`. */
  around: readonly string[] = [],
): Promise<Map<number, RawReply> | string> {
  const member = groups === undefined ? '--clear-groups' : `--groups=${groups.join(',')}`;
  const identity = ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, member];
  const [program, ...rest] = [...around, ...identity, NODE, '-e', CLIENT, socket];
  const env = { PATH: process.env.PATH };
  const child = spawn(program!, rest, { cwd: '/', env, stdio: 'pipe' });
  child.stdin.end(
    Buffer.concat([requestFrame({ id: 1000, hello: HELLO }), ...requests.map((one) => requestFrame(one))]),
  );
  const out: Buffer[] = [];
  let trouble = '';
  child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => {
    trouble += chunk.toString();
  });
  await new Promise((resolve) => child.once('close', resolve));
  const bytes = Buffer.concat(out);
  if (bytes.length === 0) {
    return trouble;
  }
  return repliesIn(bytes);
}

/** By their ids. */
export function repliesIn(bytes: Buffer): Map<number, RawReply> {
  const replies = new Map<number, RawReply>();
  for (let at = 0; at < bytes.length; at += 4 + bytes.readUInt32BE(at)) {
    const reply = messages.Reply.decode(bytes.subarray(at + 4, at + 4 + bytes.readUInt32BE(at))) as unknown as RawReply;
    replies.set(reply.id, reply);
  }
  return replies;
}
