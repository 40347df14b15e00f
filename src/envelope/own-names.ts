/** Names of dekd's own in the encryption context of a message; callers' may not begin like them. */

export const OWN_NAME_PREFIX = 'dekd-';
/** Of which key, and of which of its partitions, a message is that others than the keystore can open: nothing else says it. */
export const KEY_NAME = 'dekd-key';
export const PARTITION_NAME = 'dekd-partition';
/** What the value in a message is, and how it was compressed. */
export const CONTENT_NAME = 'dekd-content';
export const COMPRESSION_NAME = 'dekd-compression';
/** Sets what a provider encrypts in direct mode apart from data keys: 32 bytes of that are known to whoever asked for it. */
export const USE_NAME = 'dekd-use';
/** In the record of a key version, never in a message: the root that a caller chose for it. */
export const ROOT_NAME = 'dekd-root';
