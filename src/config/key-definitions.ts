/** What the configuration says of keys, as the keyring takes it. */
import type { KeyDefinition } from '../keyring/key-definition.ts';
import type { Config, RotationLimits } from './config.ts';

/** The entries of `keys` in their order, then one for every other key with the common rotation. */
export function keyringDefinitions(config: Pick<Config, 'keys' | 'rotation' | 'direct'>): KeyDefinition[] {
  return [
    ...config.keys.map(({ name, keyContext, requiredContext, rotation, direct }) => ({
      pattern: name,
      keyContext,
      requiredContext,
      rotation: keyringLimits(rotation),
      direct,
    })),
    { pattern: '*', rotation: keyringLimits(config.rotation), direct: config.direct },
  ];
}

function keyringLimits(limits: RotationLimits): NonNullable<KeyDefinition['rotation']> {
  const { age, messages, bytes, schedule, keep, grace } = limits;
  return { maxAgeMs: age, maxMessages: messages, maxBytes: bytes, schedule, keep, graceMs: grace };
}
