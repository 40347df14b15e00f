/** A command on an admin socket; the light client has no part in it. */
import { DekdError } from '../errors.ts';
import type { AdminFields } from '../protocol/messages.ts';
import type { Channel } from './channel.ts';
import { errorOf } from './replies.ts';

/** A rotation or an import waits for the keystore and the disk. */
const ANSWER_TIMEOUT_MS = 60_000;

/** Sends one command, never twice; resolves with the document it is answered with. */
export function askAdmin(channel: Channel, command: AdminFields): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(new DekdError('DEADLINE_EXCEEDED', `the agent gave no answer within ${ANSWER_TIMEOUT_MS} ms`));
      channel.close();
    }, ANSWER_TIMEOUT_MS);
    const id = channel.expect({
      reply: (reply) => {
        clearTimeout(timer);
        const { error, document } = reply.decode();
        if (error) {
          reject(errorOf(error));
        } else {
          resolve(document && document.length > 0 ? JSON.parse(Buffer.from(document).toString('utf8')) : {});
        }
      },
      lost: (error) => {
        clearTimeout(timer);
        reject(error);
      },
    });
    channel.push(channel.writer.message({ id, admin: command }));
    channel.flush();
  });
}
