import { DekdError } from '../../errors.ts';
import { OPERATION } from '../../protocol/request-reader.ts';
import { FieldBatch, type FieldCall, type FieldItem } from './field-batch.ts';
import { jsonValueOf, textOfUtf8 } from './json-text.ts';
import { tokenIn } from './token-value.ts';

/** Tokens in, plaintexts out. */
export class Opening extends FieldBatch {
  readonly #isWanted: readonly boolean[] | undefined;

  /** @param isWanted by index of the path; undefined for all */
  constructor(call: FieldCall, isWanted: readonly boolean[] | undefined) {
    super(call);
    this.#isWanted = isWanted;
  }

  async run(): Promise<void> {
    const { items } = this;
    const opened = await this.pass(OPERATION.decryptMany, items);
    for (let i = 0; i < items.length; i++) {
      const item = items[i]!;
      item.holder[item.name] = this.#valueOf(item, this.bytesIn(item, opened[i]!));
    }
  }

  protected load(item: FieldItem, value: unknown): boolean {
    const { definition, slab } = this.call;
    if (this.#isWanted?.[item.field] === false || (value === null && definition.keepsNulls)) {
      return false;
    }
    const token = tokenIn(value, slab);
    if (token === undefined) {
      const hint = value === null ? ": say nulls: 'keep' where the store has null for what is absent" : '';
      throw new DekdError('MALFORMED', `${this.at(item)}: the value is no token, a text that begins with dk1.${hint}`);
    }
    item.data = token;
    return true;
  }

  #valueOf(item: FieldItem, plaintext: Uint8Array): unknown {
    return this.about(item, () => {
      const value = jsonValueOf(textOfUtf8(plaintext));
      const codec = this.codecOf(item, value);
      return codec === undefined ? value : codec.decode(value as never);
    });
  }
}
