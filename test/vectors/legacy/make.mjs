// Makes envelopes.json: what an application with node:crypto and CONNECTOR_CRED_KEY[S] stored, and what looks like it. Keys and
// ivs are fixed, so that a second run writes the same file.

import { createCipheriv, createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';

const bytes = (label, length) =>
  createHash('sha256').update(`dekd legacy vectors: ${label}`).digest().subarray(0, length);
const keys = { v1: bytes('key v1', 32), v2: bytes('key v2', 32), '2024-key.B': bytes('key three', 32) };

function seal(kid, plaintext, iv, aad = Buffer.alloc(0)) {
  const cipher = createCipheriv('aes-256-gcm', keys[kid], iv);
  cipher.setAAD(aad);
  const sealed = Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
  return { __enc: 1, kid, iv: iv.toString('base64'), ct: sealed.toString('base64') };
}

const plaintexts = {
  'a small object': '{"user":"ada","password":"correct horse battery staple"}',
  'nothing at all': '',
  'an empty object': '{}',
  'text beyond ASCII': '{"name":"Zoë 🔐","note":"\u0000\u2028"}',
  'an object of 5,000 bytes': JSON.stringify({ pem: 'A'.repeat(4_990) }),
  'one byte': '1',
};

const opens = Object.keys(keys).flatMap((kid) =>
  Object.entries(plaintexts).map(([name, plaintext]) => ({
    name: `${name}, kid ${kid}`,
    plaintext: Buffer.from(plaintext).toString('base64'),
    envelope: seal(kid, Buffer.from(plaintext), bytes(`iv ${kid} ${name}`, 12)),
  })),
);

const good = seal('v1', Buffer.from('{"a":1}'), bytes('iv good', 12));
const changedBase64 = (text, at) => {
  const changed = Buffer.from(text, 'base64');
  changed[at < 0 ? changed.length + at : at] ^= 1;
  return changed.toString('base64');
};
const short = { ...good, ct: Buffer.alloc(15).toString('base64') };
const iv16 = createCipheriv('aes-256-gcm', keys.v1, bytes('iv long', 16));
const text = (value) => JSON.stringify(value);

// What opens with nothing, although it has the shape: DECRYPTION_FAILED.
const fails = {
  'the first byte of the ciphertext changed': text({ ...good, ct: changedBase64(good.ct, 0) }),
  'the last byte of the tag changed': text({ ...good, ct: changedBase64(good.ct, -1) }),
  'the iv changed': text({ ...good, iv: changedBase64(good.iv, 0) }),
  'the kid of another key': text({ ...good, kid: 'v2' }),
  'a kid that nobody has': text({ ...good, kid: 'v3' }),
  'a kid in other letters': text({ ...good, kid: 'V1' }),
  'a kid that every object has': text({ ...good, kid: 'constructor' }),
  'additional data': text(seal('v1', Buffer.from('{"a":1}'), bytes('iv aad', 12), Buffer.from('aad'))),
  'the tag before the ciphertext': text({
    ...good,
    ct: Buffer.concat([
      Buffer.from(good.ct, 'base64').subarray(-16),
      Buffer.from(good.ct, 'base64').subarray(0, -16),
    ]).toString('base64'),
  }),
  'a ciphertext cut short': text({ ...good, ct: Buffer.from(good.ct, 'base64').subarray(0, -1).toString('base64') }),
};

// What is not an envelope at all: MALFORMED.
const malformed = {
  'another version': text({ ...good, __enc: 2 }),
  'a version that is a text': text({ ...good, __enc: '1' }),
  'a version that is true': text({ ...good, __enc: true }),
  'an extra key': text({ ...good, alg: 'none' }),
  'no kid': text({ __enc: 1, iv: good.iv, ct: good.ct }),
  'an empty kid': text({ ...good, kid: '' }),
  'a kid of 65 characters': text({ ...good, kid: 'k'.repeat(65) }),
  'the kid of dekd itself': text({ ...good, kid: 'dekd' }),
  'a kid that is a number': text({ ...good, kid: 1 }),
  'an iv of 11 bytes': text({ ...good, iv: Buffer.alloc(11).toString('base64') }),
  'an iv of 16 bytes': text({
    ...good,
    iv: bytes('iv long', 16).toString('base64'),
    ct: Buffer.concat([iv16.update('{"a":1}'), iv16.final(), iv16.getAuthTag()]).toString('base64'),
  }),
  'a ct of 15 bytes': text(short),
  'no ct bytes': text({ ...good, ct: '' }),
  'an iv without padding bits': text({ ...good, iv: `${good.iv.slice(0, -1)}=` }),
  'a ct with a line feed': text({ ...good, ct: `${good.ct}\n` }),
  'a ct with a space inside': text({ ...good, ct: `${good.ct.slice(0, 4)} ${good.ct.slice(4)}` }),
  'a ct in base64url': text({ ...good, ct: `-_${good.ct.slice(2)}` }),
  'a ct without padding': text(
    ((sealed) => ({ ...sealed, ct: sealed.ct.replace(/=+$/, '') }))(
      seal('v1', Buffer.from('{"a":123}'), bytes('iv padding', 12)),
    ),
  ),
  'a ct with bits left over': text(
    ((sealed) => ({
      ...sealed,
      ct: sealed.ct.replace(/(.)(=+)$/, (_, last, pad) => `${last === 'B' ? 'C' : 'B'}${pad}`),
    }))(seal('v1', Buffer.from('{"a":123}'), bytes('iv padding', 12))),
  ),
  'a list': text([good]),
  'a text': text(text(good)),
  null: 'null',
  'no JSON': `${text(good)},`,
  nothing: '',
};

const file = {
  about:
    'Made by make.mjs with node:crypto: what applications stored under CONNECTOR_CRED_KEYS, and what looks like it.',
  keys: Object.fromEntries(Object.entries(keys).map(([kid, key]) => [kid, key.toString('base64')])),
  opens,
  fails,
  malformed,
};
writeFileSync(new URL('envelopes.json', import.meta.url), `${JSON.stringify(file, null, 2)}\n`);
