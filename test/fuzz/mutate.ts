const EDGES = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff];

/** Changes an input in one to a few ways: bytes, lengths, pieces of others, words. `random` gives numbers in [0, 1). */
export function mutate(
  seed: Uint8Array,
  others: readonly Uint8Array[],
  words: readonly Uint8Array[],
  maxLength: number,
  random: () => number,
): Uint8Array {
  const below = (n: number): number => Math.floor(random() * n);
  let bytes = Buffer.from(seed);
  for (let left = 1 + below(4); left > 0; left--) {
    const at = below(bytes.length + 1);
    switch (below(10)) {
      case 0:
        if (at < bytes.length) {
          bytes[at]! ^= 1 << below(8);
        }
        break;
      case 1:
        if (at < bytes.length) {
          bytes[at] = below(256);
        }
        break;
      case 2:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + below(16))]);
        break;
      case 3: {
        const from = below(bytes.length + 1);
        const piece = bytes.subarray(from, from + 1 + below(32));
        bytes = Buffer.concat([bytes.subarray(0, at), piece, bytes.subarray(at)]);
        break;
      }
      case 4: {
        const other = others[below(others.length)]!;
        const from = below(other.length + 1);
        bytes = Buffer.concat([bytes.subarray(0, at), other.subarray(from, from + 1 + below(64)), bytes.subarray(at)]);
        break;
      }
      case 5: {
        const other = others[below(others.length)]!;
        bytes = Buffer.concat([bytes.subarray(0, at), other.subarray(below(other.length + 1))]);
        break;
      }
      case 6:
      case 7:
        if (words.length > 0) {
          const over = below(2) === 0 ? 0 : below(8);
          bytes = Buffer.concat([bytes.subarray(0, at), words[below(words.length)]!, bytes.subarray(at + over)]);
        }
        break;
      case 8: {
        const edge = Buffer.alloc(4);
        edge.writeUInt32BE(EDGES[below(EDGES.length)]!);
        const width = [1, 2, 4][below(3)]!;
        bytes = Buffer.concat([bytes.subarray(0, at), edge.subarray(4 - width), bytes.subarray(at + width)]);
        break;
      }
      default:
        bytes = Buffer.concat([bytes.subarray(0, at), Buffer.alloc(1 + below(24), below(256)), bytes.subarray(at)]);
    }
  }
  return Uint8Array.prototype.slice.call(bytes, 0, maxLength);
}
