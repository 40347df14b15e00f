import { describe, expect, it } from 'vitest';
import { MIN_TOKEN_LENGTH, readTokenHead, tokenKid } from '../../src/envelope/token.ts';
import { decodeTokenText, encodeTokenText } from '../../src/envelope/token-text.ts';
import { refusal } from '../support/refusal.ts';

function tokenOf(length: number): Uint8Array {
  const token = Uint8Array.from({ length }, (_, i) => (i * 7) & 0xff);
  token[0] = 0xc1;
  token[1] = 0x01;
  return token;
}

describe('readTokenHead', () => {
  it('takes tokens of 58 bytes and more, at any offset', () => {
    expect(readTokenHead(tokenOf(58), 0, 58)).toBe(0x01);
    const around = new Uint8Array(100);
    around.set(tokenOf(60), 11);
    expect(readTokenHead(around, 11, 60)).toBe(0x01);
    expect(tokenKid(around, 11)).toEqual(tokenOf(60).subarray(2, 18));
  });

  it('says MALFORMED for every other first byte', () => {
    for (let first = 0; first < 256; first++) {
      if (first !== 0xc1) {
        const token = tokenOf(80);
        token[0] = first;
        expect(refusal(() => readTokenHead(token, 0, 80)).code).toBe('MALFORMED');
      }
    }
  });

  it('says UNSUPPORTED_VERSION for every other suite, whatever the length', () => {
    for (let suite = 0; suite < 256; suite++) {
      if (suite !== 0x01 && suite !== 0x10) {
        const token = tokenOf(80);
        token[1] = suite;
        expect(refusal(() => readTokenHead(token, 0, 80)).code).toBe('UNSUPPORTED_VERSION');
        expect(refusal(() => readTokenHead(token, 0, 2)).code).toBe('UNSUPPORTED_VERSION');
      }
    }
    const reserved = tokenOf(80);
    reserved[1] = 0x02;
    expect(refusal(() => readTokenHead(reserved, 0, 80)).message).toContain('suite 02, which is reserved');
  });

  it('tells a direct token from one of a data key', () => {
    const token = tokenOf(80);
    expect(readTokenHead(token, 0, 80)).toBe(0x01);
    token[1] = 0x10;
    expect(readTokenHead(token, 0, 80)).toBe(0x10);
    expect(refusal(() => readTokenHead(token, 0, 40)).code).toBe('MALFORMED');
  });

  it('says MALFORMED for every length under 58, even when more bytes follow', () => {
    for (let length = 0; length < MIN_TOKEN_LENGTH; length++) {
      expect(refusal(() => readTokenHead(tokenOf(80), 0, length)).code).toBe('MALFORMED');
    }
    expect(refusal(() => readTokenHead(tokenOf(57), 0, 57)).message).toBe(
      'a token has at least 58 bytes, this one has 57',
    );
  });

  it.each([
    ['the string form', Buffer.from('dk1.wQEA'), 'string form'],
    ['Vault text', Buffer.from('vault:v1:abc'), 'Vault Transit'],
    ['a message', Buffer.from('020478aabb', 'hex'), 'AWS Encryption SDK message'],
    ['a signed message', Buffer.from('020578aabb', 'hex'), 'AWS Encryption SDK message'],
    ['a message of version 1', Buffer.from('01800378', 'hex'), 'AWS Encryption SDK message'],
    ['a message in base64', Buffer.from('AgR4xyz'), 'base64'],
    ['JSON', Buffer.from('  {"__enc":1}'), 'JSON'],
    ['something else', Buffer.from([0xc2, 1]), 'byte c1'],
  ])('says when it is %s', (_, bytes, part) => {
    const { code, message } = refusal(() => readTokenHead(bytes, 0, bytes.length));
    expect(code).toBe('MALFORMED');
    expect(message).toContain(part);
  });
});

describe('the string form', () => {
  it('is dk1. and base64url without padding', () => {
    expect(encodeTokenText(Uint8Array.of(0xfb, 0xff, 0xfe, 0x00))).toBe('dk1.-__-AA');
    expect(decodeTokenText('dk1.-__-AA')).toEqual(Uint8Array.of(0xfb, 0xff, 0xfe, 0x00));
  });

  it('gives back tokens of every length, as views and as copies', () => {
    for (let length = 58; length < 130; length++) {
      const token = tokenOf(length + 5).subarray(5);
      const text = encodeTokenText(token);
      expect(text).toMatch(/^dk1\.[A-Za-z0-9_-]{78,}$/);
      expect(decodeTokenText(text)).toEqual(new Uint8Array(token));
    }
  });

  it.each([
    ['padding', 'dk1.AAA='],
    ['white space after', 'dk1.AAAA '],
    ['a line feed after', 'dk1.AAAA\n'],
    ['white space inside', 'dk1.AA AA'],
    ['white space before', ' dk1.AAAA'],
    ['the other alphabet, +', 'dk1.-_+A'],
    ['the other alphabet, /', 'dk1.-_/A'],
    ['bits left over, two characters', 'dk1.AB'],
    ['bits left over, three characters', 'dk1.AAB'],
    ['one character left over', 'dk1.AAAAA'],
    ['a character of no alphabet', 'dk1.AA*A'],
    ['a character beyond ASCII', 'dk1.AAé'],
    ['a full-width character', 'dk1.AAA\uff21'],
    ['a zero', 'dk1.AAAA\0'],
    ['another prefix', 'dk2.AAAA'],
    ['upper case in the prefix', 'DK1.AAAA'],
    ['no prefix', 'AAAA'],
    ['nothing', ''],
  ])('refuses %s', (_, text) => {
    expect(refusal(() => decodeTokenText(text)).code).toBe('MALFORMED');
  });

  it.each([
    ['vault:v1:8SDd3WHDOjf7mq69CyCqYjBXAiQQAVZRkFM13ok481zoCmHnSeDX9vyf7w==', 'Vault Transit'],
    ['AYADeJxA', 'AWS Encryption SDK'],
    ['AgV4Hq0W', 'AWS Encryption SDK'],
    ['{"__enc":1,"kid":"v1"}', 'JSON'],
    ['hello', 'does not begin with dk1.'],
  ])('says what %s is', (text, part) => {
    expect(refusal(() => decodeTokenText(text)).message).toContain(part);
  });

  it('refuses what is no string', () => {
    expect(refusal(() => decodeTokenText(Buffer.from('dk1.AAAA') as unknown as string)).code).toBe('INVALID_ARGUMENT');
  });
});
