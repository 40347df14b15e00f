import type { AwsKmsSettings } from '../../../src/providers/aws-kms.ts';
import type { KmsServer } from './kms-server.ts';

/** Settings of a root at the stand-in; without retries unless a test asks for them, so that requests can be counted. */
export function kmsSettings(
  kms: Pick<KmsServer, 'endpoint'>,
  settings: Partial<AwsKmsSettings> & Pick<AwsKmsSettings, 'key'>,
): AwsKmsSettings {
  return {
    region: undefined,
    endpoint: kms.endpoint,
    fips: false,
    retries: 0,
    timeout: 5000,
    connections: 4,
    idleTimeout: 30_000,
    ...settings,
  };
}
