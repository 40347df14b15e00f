/** Names that entries of the file give and take. */
import * as v from 'valibot';
import { looksLikeKeyMaterial } from '../problems.ts';
import { integer, type Reader, text } from '../readers.ts';

/** As in `src/envelope/legacy.ts`, which this module cannot import. */
export const OWN_LEGACY_KID = 'dekd';

export const glob = text('a name in which * stands for any run of characters');
/** The empty text is for what has no partition. */
export const partitionGlob: Reader<string> = { ...glob, read: (raw) => (raw === '' ? '' : glob.read(raw)) };
export const id = integer(0, 0xfffffffe);
/** What legacy envelopes call a key. What is stored in their place since has a kid of its own. */
export const kid: Reader<string> = {
  ...text('a kid', 64),
  expected: 'a kid of 1 to 64 characters other than dekd, and not the key itself',
  read: (raw) =>
    raw === OWN_LEGACY_KID || looksLikeKeyMaterial(String(raw)) ? undefined : text('a kid', 64).read(raw),
};
export const entryName = v.pipe(
  v.string(),
  v.regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'expected a name of lower-case letters, digits and -'),
);
export const furtherName = v.pipe(
  entryName,
  v.check((name) => name !== 'default', 'expected another name: default is the section keystore'),
);
export const recipientName = v.pipe(
  entryName,
  v.check((name) => name !== 'keystore', 'expected another name: keystore is the keystore itself'),
);
export const socketName = v.pipe(
  entryName,
  v.check(
    (name) => name !== 'data' && name !== 'admin',
    'expected another name: data is the section socket, admin its own',
  ),
);
