/** What the configuration says of keys, as the keyring takes it. */
import type { KeyDefinition } from '../keyring/key-definition.ts';
import type { Config, RotationLimits } from './config.ts';

/** The entries of `keys` in their order, then one for every other key with the common rotation. */
export function keyringDefinitions(config: Pick<Config, 'keys' | 'rotation' | 'direct' | 'message'>): KeyDefinition[] {
  return [
    ...config.keys.map(({ name, rotation, ...rest }) => ({
      ...rest,
      pattern: name,
      rotation: keyringLimits(rotation),
    })),
    {
      pattern: '*',
      rotation: keyringLimits(config.rotation),
      direct: config.direct,
      recipients: config.message.recipients,
      formerRecipients: config.message.formerRecipients,
    },
  ];
}

function keyringLimits(limits: RotationLimits): NonNullable<KeyDefinition['rotation']> {
  const { age, messages, bytes, schedule, keep, grace } = limits;
  return { maxAgeMs: age, maxMessages: messages, maxBytes: bytes, schedule, keep, graceMs: grace };
}
