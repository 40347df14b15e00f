/** What the configuration says of keys, as the keyring takes it. */
import type { KeyDefinition } from '../keyring/key-definition.ts';
import type { Config, RotationLimits } from './config.ts';

/** The entries of `keys` in their order, then one for every other key with the common rotation. */
export function keyringDefinitions(config: Pick<Config, 'keys' | 'rotation'>): KeyDefinition[] {
  return [
    ...config.keys.map(({ name, keyContext, requiredContext, rotation }) => ({
      pattern: name,
      keyContext,
      requiredContext,
      rotation: keyringLimits(rotation),
    })),
    { pattern: '*', rotation: keyringLimits(config.rotation) },
  ];
}

function keyringLimits({ age, messages, bytes }: RotationLimits): NonNullable<KeyDefinition['rotation']> {
  return { maxAgeMs: age, maxMessages: messages, maxBytes: bytes };
}
