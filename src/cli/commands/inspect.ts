/** What a token or a message says of itself to anybody, without a key: nothing of it is verified. */

import { hex } from '../../bytes.ts';
import { bodyLayout } from '../../envelope/message-body.ts';
import {
  type MessageHeader,
  MessageHeaderReader,
  messageContext,
  SIGNED_MESSAGE_SUITE,
} from '../../envelope/message-header.ts';
import { MIN_TOKEN_LENGTH, readTokenHead, SUITE_DIRECT, tokenKid } from '../../envelope/token.ts';
import { decodeTokenText, TOKEN_TEXT_PREFIX } from '../../envelope/token-text.ts';
import { DekdError } from '../../errors.ts';
import { usageError } from '../exit.ts';
import { recipientOutline } from '../recipient-outline.ts';
import { type CommandLine, outline, printResult } from '../terminal.ts';
import { MESSAGE_START } from './messages.ts';
import { openSource, operandOf, readWhole, type Source, tokenIn } from './value-options.ts';

/** The longest token that is looked at: 16 MiB of plaintext, in base64. */
const MAX_TOKEN = 24 * 1024 * 1024;

export async function inspect(
  line: CommandLine,
  options: Record<string, unknown>,
  operand: string | undefined,
): Promise<void> {
  const input = options.input as string | undefined;
  const given = operandOf(operand, input, 'token');
  const document = given?.startsWith(TOKEN_TEXT_PREFIX)
    ? ofToken(decodeTokenText(given), 'text')
    : await ofSource(given ?? input);
  printResult(line, document, outline(document));
}

async function ofSource(path: string | undefined): Promise<object> {
  const source = await openSource(path);
  const stream = source.open();
  const reader = new MessageHeaderReader();
  let bytes = Buffer.alloc(0);
  for await (const chunk of stream) {
    bytes = Buffer.concat([bytes, chunk as Buffer]);
    if (bytes.length > 0 && bytes[0] !== MESSAGE_START) {
      return await ofTokenSource(source, bytes, stream);
    }
    const header = reader.read(bytes);
    if (header !== undefined) {
      stream.destroy();
      return ofMessage(header, source.size);
    }
  }
  // Says what is wrong with it, or that there is more to come.
  throw usageError(
    bytes.length === 0
      ? `${source.name} is empty`
      : `${source.name} is cut short: the header of the message is not whole`,
  );
}

async function ofTokenSource(source: Source, begun: Buffer, stream: AsyncIterable<unknown>): Promise<object> {
  const rest = await readWhole({ ...source, size: undefined, open: () => stream as never }, MAX_TOKEN);
  const bytes = Buffer.concat([begun, rest]);
  const { token, form } = tokenIn(bytes, source);
  return ofToken(token, form);
}

function ofToken(token: Uint8Array, form: 'text' | 'binary'): object {
  const suite = readTokenHead(token, 0, token.length);
  const id = hex(tokenKid(token, 0));
  return suite === SUITE_DIRECT
    ? { kind: 'token', form, suite: 'direct', reference: id, bytes: token.length }
    : {
        kind: 'token',
        form,
        suite: 'xaes-256-gcm',
        kid: id,
        bytes: token.length,
        plaintextBytes: token.length - MIN_TOKEN_LENGTH,
      };
}

function ofMessage(header: MessageHeader, size: number | undefined): object {
  const { suite, messageId, dataKeys, frameLength, length } = header;
  return {
    kind: 'message',
    suite: `0x${suite.toString(16).padStart(4, '0')}`,
    signed: suite === SIGNED_MESSAGE_SUITE,
    messageId: hex(messageId),
    context: { ...messageContext(header) },
    dataKeys: dataKeys.map(recipientOutline),
    frameLength,
    headerBytes: length,
    ...(size === undefined || frameLength === 0 || suite === SIGNED_MESSAGE_SUITE
      ? {}
      : bodyOf(size, length, frameLength)),
  };
}

/** What the size of the file says, if it is whole. */
function bodyOf(size: number, headerLength: number, frameLength: number): object {
  try {
    const { frames, plaintextLength } = bodyLayout(size - headerLength, frameLength);
    return { bytes: size, frames, plaintextBytes: plaintextLength };
  } catch (error) {
    if (DekdError.is(error, 'MALFORMED')) {
      return { bytes: size };
    }
    throw error;
  }
}
