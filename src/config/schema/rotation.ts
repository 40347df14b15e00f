/** When versions are replaced, and how long they open. */
import { cronExpression, duration, integer, orNever, size } from '../readers.ts';
import { key, optionalKey } from './key.ts';

export const rotationKeys = {
  age: key(orNever(duration('1m', '36500d')), '90d', {
    meaning: 'Age at which a sealing version is replaced.',
    example: '30d',
  }),
  messages: key(orNever(integer(1, Number.MAX_SAFE_INTEGER)), 4_294_967_296, {
    meaning:
      'Messages after which it is replaced. Nonces are safe for 2^80 messages a key: this bounds what one lost key opens.',
    example: '1000000000',
  }),
  bytes: key(orNever(size('1MiB', '4PiB')), '1PiB', {
    meaning: 'Plaintext sealed after which it is replaced.',
    example: '1TiB',
  }),
  schedule: optionalKey(cronExpression, {
    meaning:
      'Times in UTC, as cron writes them (minute, hour, day of month, month, day of week): a sealing version made before the last of them is replaced.',
    example: '"0 3 1 * *"',
  }),
  keep: key(orNever(integer(1, 1_000_000)), 'never', {
    meaning:
      'Versions that stopped sealing and still open. Older ones are disabled when grace is over; none is destroyed.',
    danger: 'what is still encrypted under a version that is disabled does not open until it is enabled again.',
    example: '5',
  }),
  grace: key(duration('0ms', '36500d'), '7d', {
    meaning: 'Time for which a version opens after it stopped sealing, whatever keep says.',
    example: '30d',
  }),
};
