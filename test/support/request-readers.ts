/** Two readers of one request: that of the agent, by hand, and the generated one, in the same words. */
import { messages } from '../../src/protocol/messages.ts';
import { OPERATION, RequestReader } from '../../src/protocol/request-reader.ts';

/** What the reader by hand says of a request, in the words of the generated one. */
export function readByHand(body: Uint8Array): object {
  const reader = new RequestReader();
  reader.read(Buffer.from(body));
  const { id, timeoutMs, operation } = reader;
  if (operation === OPERATION.keyInfo) {
    reader.readBinding();
    return { id, timeoutMs, operation, key: reader.key, partition: reader.partition };
  }
  if (operation < OPERATION.encrypt) {
    return { id, timeoutMs, operation };
  }
  reader.readBinding();
  const slice = (at: number, length: number): number[] => [...reader.frame.subarray(at, at + length)];
  const { key, partition, anyKey } = reader;
  const context = slice(reader.contextOffset, reader.contextLength);
  if (operation < OPERATION.encryptMany) {
    return {
      id,
      timeoutMs,
      operation,
      key,
      partition,
      anyKey,
      context,
      data: slice(reader.dataOffset, reader.dataLength),
    };
  }
  const items: object[] = [];
  reader.visitItems({
    item: (dataAt, dataLength, contextAt, contextLength, itemKey, itemPartition) =>
      void items.push({
        data: slice(dataAt, dataLength),
        context: slice(contextAt, contextLength),
        key: itemKey ?? key,
        partition: itemPartition ?? partition,
      }),
  });
  if (reader.count !== items.length) {
    throw new Error(`${items.length} items were visited and ${reader.count} counted`);
  }
  return { id, timeoutMs, operation, key, partition, anyKey, context, items };
}

/** The same by the generated code. @throws what that throws */
export function readByGenerated(body: Uint8Array): object {
  const request = messages.Request.decode(body);
  const { id, timeoutMs } = request;
  const name = (Object.keys(OPERATION) as (keyof typeof OPERATION)[]).find((one) => request[one]);
  const operation = name === undefined ? 0 : OPERATION[name];
  if (operation === OPERATION.keyInfo) {
    const { key, partition } = request.keyInfo!;
    return { id, timeoutMs, operation, key, partition };
  }
  if (operation < OPERATION.encrypt) {
    return { id, timeoutMs, operation };
  }
  const fields = request[name!] as unknown as {
    key: string;
    partition: string;
    anyKey?: boolean;
    context: Uint8Array;
    data: Uint8Array;
    items: { data: Uint8Array; key?: string; partition?: string; context?: Uint8Array }[];
  };
  const { key, partition } = fields;
  const anyKey = fields.anyKey ?? false;
  const context = [...fields.context];
  if (operation < OPERATION.encryptMany) {
    return { id, timeoutMs, operation, key, partition, anyKey, context, data: [...fields.data] };
  }
  const items = fields.items.map((item) => ({
    data: [...item.data],
    context: [...(item.context ?? fields.context)],
    key: item.key ?? key,
    partition: item.partition ?? partition,
  }));
  return { id, timeoutMs, operation, key, partition, anyKey, context, items };
}

/** All that the agent reads of a request with this operation. @throws as the agent does */
export function readAll(body: Uint8Array): RequestReader {
  const reader = new RequestReader();
  reader.read(Buffer.from(body));
  switch (reader.operation) {
    case OPERATION.encryptStream:
    case OPERATION.decryptStream:
    case OPERATION.reencryptStream:
      reader.readOpenStream();
      break;
    case OPERATION.streamPart:
      reader.readStreamPart();
      break;
    case OPERATION.laneEncrypt:
    case OPERATION.laneDecrypt:
      reader.readLaneCall();
      break;
    case OPERATION.fileEncrypt:
    case OPERATION.fileDecrypt:
      reader.decode(messages.FileCall);
      break;
    case OPERATION.cancel:
      reader.decode(messages.Cancel);
      break;
    case OPERATION.blindIndex:
      reader.readBlindIndex();
      break;
    case OPERATION.admin:
      reader.decode(messages.Admin);
      break;
    case OPERATION.hello:
      reader.decode(messages.Hello);
      break;
    default:
      reader.readValues();
  }
  return reader.copy();
}
