import { encodeTokenText, TOKEN_TEXT_PREFIX } from '../../envelope/token-text.ts';
import { OPERATION } from '../../protocol/request-reader.ts';
import type { ManyResult } from '../types.ts';
import type { AnyCodec } from './definition.ts';
import { FieldBatch, type FieldItem, type Row } from './field-batch.ts';
import { jsonTextOf, NotJson } from './json-text.ts';
import { tokenIn } from './token-value.ts';

/** What stands for a value in the copy of a row until its token is there. */
const PENDING = TOKEN_TEXT_PREFIX;

/** Plaintexts in, tokens out. */
export class Sealing extends FieldBatch {
  /** Values that may be tokens of this very field already. */
  readonly #suspects: FieldItem[] = [];

  async run(): Promise<void> {
    const suspects = this.#suspects;
    let wanted = this.items;
    if (suspects.length > 0) {
      const opened = await this.pass(OPERATION.decryptMany, suspects);
      for (let i = 0; i < suspects.length; i++) {
        this.#judge(suspects[i]!, opened[i]!);
      }
      wanted = wanted.filter((item) => item.kept === undefined);
    }
    const sealed = await this.pass(OPERATION.encryptMany, wanted);
    for (let i = 0; i < wanted.length; i++) {
      const item = wanted[i]!;
      item.holder[item.name] = encodeTokenText(this.bytesIn(item, sealed[i]!));
    }
    for (const { holder, name, kept } of suspects) {
      if (kept !== undefined) {
        holder[name] = kept;
      }
    }
  }

  protected load(item: FieldItem, value: unknown): boolean {
    const { definition, slab } = this.call;
    if (value === null && definition.keepsNulls) {
      return false;
    }
    const token = definition.isIdempotent ? tokenIn(value, slab) : undefined;
    if (token === undefined) {
      item.data = this.#plaintext(item, value);
    } else {
      item.data = token;
      item.kept = value as string;
      this.#suspects.push(item);
    }
    item.holder[item.name] = PENDING;
    return true;
  }

  /** What the values are bound to must be there again when only their tokens are. */
  protected override checkCopy(copy: Row): void {
    this.call.binding.checkSame(copy);
  }

  #plaintext(item: FieldItem, value: unknown): Uint8Array {
    const { slab } = this.call;
    const codec = this.codecOf(item, value);
    if (codec === undefined && typeof value === 'string') {
      const quoted = slab.quoted(value);
      if (quoted !== undefined) {
        return quoted;
      }
    }
    return slab.text(this.about(item, () => jsonTextOf(codec === undefined ? value : encoded(codec, value))));
  }

  /** Decides whether a value that looks like a token is one. @throws when the agent cannot tell, or does not tell this caller */
  #judge(item: FieldItem, result: ManyResult): void {
    if (result.ok) {
      return;
    }
    const { error } = result;
    switch (error.code) {
      case 'DECRYPTION_FAILED':
      case 'MALFORMED':
      case 'UNSUPPORTED_VERSION':
        item.data = this.#plaintext(item, item.kept);
        item.kept = undefined;
        break;
      case 'PERMISSION_DENIED':
        throw this.failure(
          item,
          error,
          `the value looks like a token, and to tell takes the right to decrypt: ${error.message} (or say idempotent: false, and every value is encrypted)`,
        );
      default:
        throw this.failure(item, error);
    }
  }
}

/** @throws NotJson for null, which would come back as null and not as the value */
function encoded(codec: AnyCodec, value: unknown): unknown {
  const json = codec.encode(value);
  if (json === null) {
    throw new NotJson('its codec gave null for a value');
  }
  return json;
}
