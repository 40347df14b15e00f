/** Names that entries of the file give and take. */
import * as v from 'valibot';
import { integer, type Reader, text } from '../readers.ts';

export const glob = text('a name in which * stands for any run of characters');
/** The empty text is for what has no partition. */
export const partitionGlob: Reader<string> = { ...glob, read: (raw) => (raw === '' ? '' : glob.read(raw)) };
export const id = integer(0, 0xfffffffe);
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
