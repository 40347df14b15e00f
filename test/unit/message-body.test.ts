import { describe, expect, it } from 'vitest';
import {
  bodyLayout,
  checkHasParts,
  FINAL_FRAME_OVERHEAD,
  FRAME_OVERHEAD,
  frameCount,
  frameOffset,
  MAX_FRAMES,
  NON_FRAMED_OVERHEAD,
  sealedBodyLength,
} from '../../src/envelope/message-body.ts';
import type { MessageHeader } from '../../src/envelope/message-header.ts';
import { invalidArgument, refusal } from '../support/refusal.ts';

/** Where the frames of a plaintext begin and where the last one ends, by laying one behind the other. */
function layOut(plaintextLength: number, frameLength: number): { offsets: number[]; end: number } {
  const offsets: number[] = [];
  let at = 0;
  let left = plaintextLength;
  while (left > frameLength) {
    offsets.push(at);
    at += 4 + 12 + frameLength + 16;
    left -= frameLength;
  }
  offsets.push(at);
  return { offsets, end: at + 4 + 4 + 12 + 4 + left + 16 };
}

const KIB = 1024;

describe('overheads', () => {
  it('are those of the format', () => {
    expect([FRAME_OVERHEAD, FINAL_FRAME_OVERHEAD, NON_FRAMED_OVERHEAD]).toEqual([32, 40, 36]);
  });
});

describe('frameCount', () => {
  it.each([
    [0, 4096, 1],
    [1, 4096, 1],
    [4095, 4096, 1],
    [4096, 4096, 1],
    [4097, 4096, 2],
    [8192, 4096, 2],
    [8193, 4096, 3],
    [10_240, 512, 20],
    [5, 1, 5],
    [0xfffffffe, 1, 0xfffffffe],
    [1, 0xffffffff, 1],
    [2 ** 53 - 1, 2 ** 21 + 1, Math.ceil((2 ** 53 - 1) / (2 ** 21 + 1))],
    // One byte behind 2^21 - 1 full frames, where a quotient has no bits left for it.
    [(2 ** 21 - 1) * 0xffffffff + 1, 0xffffffff, 2 ** 21],
    [(2 ** 21 - 1) * 0xffffffff, 0xffffffff, 2 ** 21 - 1],
  ])('of %d bytes in frames of %d is %d', (plaintextLength, frameLength, count) => {
    expect(frameCount(plaintextLength, frameLength)).toBe(count);
  });

  it('takes as many frames as there are sequence numbers and refuses one more, with the remedy', () => {
    const most = MAX_FRAMES * 64 * KIB;
    expect(frameCount(most, 64 * KIB)).toBe(MAX_FRAMES);
    const message = invalidArgument(() => frameCount(most + 1, 64 * KIB));
    expect(message).toContain('are 4294967295 frames, over the limit of 4294967294: take a larger frame length');
    expect(frameCount(most + 1, 64 * KIB + 1)).toBeLessThan(MAX_FRAMES);
  });

  it.each([-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53])('refuses %d as a length', (length) => {
    expect(invalidArgument(() => frameCount(length, 4096))).toContain('plaintext length');
    expect(invalidArgument(() => sealedBodyLength(length, 4096))).toContain('plaintext length');
  });

  it.each([0, -1, 1.5, Number.NaN, 2 ** 32])('refuses %d as a frame length', (frameLength) => {
    for (const action of [frameCount, sealedBodyLength, frameOffset]) {
      expect(invalidArgument(() => action(1, frameLength))).toContain('a frame length is 1 to 4294967295 bytes');
    }
  });
});

describe('sealedBodyLength', () => {
  it('is what the frames take, laid one behind the other', () => {
    for (let frameLength = 1; frameLength <= 9; frameLength++) {
      for (let plaintextLength = 0; plaintextLength <= 40; plaintextLength++) {
        const { offsets, end } = layOut(plaintextLength, frameLength);
        expect(sealedBodyLength(plaintextLength, frameLength)).toBe(end);
        expect(frameCount(plaintextLength, frameLength)).toBe(offsets.length);
        expect(offsets.map((_, index) => frameOffset(index, frameLength))).toEqual(offsets);
      }
    }
  });

  it.each([
    [0, 40],
    [1, 41],
    [64 * KIB, 40 + 64 * KIB],
    [64 * KIB + 1, 32 + 40 + 64 * KIB + 1],
    [2 ** 40, (2 ** 24 - 1) * 32 + 40 + 2 ** 40],
  ])('of %d bytes in frames of 64 KiB is %d', (plaintextLength, length) => {
    expect(sealedBodyLength(plaintextLength, 64 * KIB)).toBe(length);
  });

  it('refuses what has no exact number', () => {
    const most = Number.MAX_SAFE_INTEGER;
    expect(invalidArgument(() => sealedBodyLength(most, 0xffffffff))).toContain('cannot be addressed');
    const fits = most - 40 - 32 * (2 ** 23 - 1);
    expect(frameCount(fits, 2 ** 30)).toBe(2 ** 23);
    expect(sealedBodyLength(fits, 2 ** 30)).toBe(most);
    expect(invalidArgument(() => sealedBodyLength(fits + 1, 2 ** 30))).toContain('cannot be addressed');
  });
});

describe('bodyLayout', () => {
  it('is the reverse of sealedBodyLength, also for an empty final frame behind full ones', () => {
    for (const frameLength of [1, 2, 7, 8, 9, 40]) {
      for (let plaintextLength = 0; plaintextLength < 5 * frameLength + 3; plaintextLength++) {
        const frames = frameCount(plaintextLength, frameLength);
        const length = sealedBodyLength(plaintextLength, frameLength);
        expect(bodyLayout(length, frameLength)).toEqual({ frames, plaintextLength });
        if (plaintextLength > 0 && plaintextLength % frameLength === 0) {
          const behind = frames * (frameLength + FRAME_OVERHEAD) + FINAL_FRAME_OVERHEAD;
          expect(bodyLayout(behind, frameLength)).toEqual({ frames: frames + 1, plaintextLength });
        }
      }
    }
  });

  it.each([0, 39, 40 + 17, 40 + 16 + 31, -1, 2 ** 60, Number.NaN])('refuses %d bytes in frames of 16', (length) => {
    expect(refusal(() => bodyLayout(length, 16))).toEqual({
      code: 'MALFORMED',
      message: `no whole message in frames of 16 has a body of ${length} bytes`,
    });
  });
});

describe('checkHasParts', () => {
  const header = (suite: number, frameLength: number) => ({ suite, frameLength }) as MessageHeader;

  it('takes framed messages that are not signed, and says what is wrong with others', () => {
    checkHasParts(header(0x0478, 1));
    expect(refusal(() => checkHasParts(header(0x0478, 0)))).toEqual({
      code: 'UNSUPPORTED',
      message: 'no part of this message can be opened alone: its body is one piece; decrypt all of it',
    });
    expect(refusal(() => checkHasParts(header(0x0578, 1))).message).toContain('it is signed as a whole');
  });
});

describe('frameOffset', () => {
  it.each([
    [0, 4096, 0],
    [1, 4096, 4128],
    [2, 4096, 8256],
    [0xfffffffd, 64 * KIB, 0xfffffffd * (64 * KIB + 32)],
  ])('of frame %d in frames of %d is %d', (index, frameLength, offset) => {
    expect(frameOffset(index, frameLength)).toBe(offset);
  });

  it.each([-1, 0.5, Number.NaN, 0xfffffffe])('refuses %d as an index', (index) => {
    expect(invalidArgument(() => frameOffset(index, 4096))).toContain('a frame index is 0 to 4294967293');
  });

  it('refuses what has no exact number', () => {
    expect(invalidArgument(() => frameOffset(0xfffffffd, 0xffffffff))).toContain('cannot be addressed');
    expect(invalidArgument(() => frameOffset(2 ** 21 + 1, 0xffffffff))).toContain('cannot be addressed');
    expect(frameOffset(2 ** 21 - 1, 0xffffffff)).toBe((2 ** 21 - 1) * (0xffffffff + 32));
  });
});
