import { isLoopback } from '../../loopback.ts';
import { ProviderError } from '../provider-error.ts';
import { isKeyName, regionOf } from './arn.ts';

export interface AwsKmsSettings {
  /** Key id, key ARN, alias/NAME or alias ARN. */
  readonly key: string;
  /** Undefined: the Region that an ARN names, else what the SDK finds (AWS_REGION, the profile). */
  readonly region: string | undefined;
  /** Instead of the Region's own endpoint. */
  readonly endpoint: string | undefined;
  readonly fips: boolean;
  /** Milliseconds for one call, waiting for a connection and retries included. */
  readonly timeout: number;
  /** Attempts after the first; 0 is exactly one request. */
  readonly retries: number;
  /** Connections at once. */
  readonly connections: number;
  /** Milliseconds that an unused connection is kept; 0 keeps none. */
  readonly idleTimeout: number;
}

/** What makes two roots talk over the same connections. */
export type ConnectionSettings = Pick<AwsKmsSettings, 'region' | 'endpoint' | 'fips' | 'connections' | 'idleTimeout'>;

/** @throws ProviderError CONFIG with the remedy. */
export function connectionSettings(root: string, settings: AwsKmsSettings): ConnectionSettings {
  const { key, endpoint, fips, connections, idleTimeout } = settings;
  if (!isKeyName(key)) {
    throw config(root, 'key is neither a key id nor a key ARN, alias/NAME or alias ARN');
  }
  if (fips && endpoint !== undefined) {
    throw config(root, 'fips chooses the endpoint itself: leave out endpoint, or fips');
  }
  if (endpoint !== undefined && !isConfidential(endpoint)) {
    throw config(
      root,
      'endpoint is no https URL: http is for loopback only, or key material crosses the network in clear',
    );
  }
  const named = regionOf(key);
  if (named !== undefined && settings.region !== undefined && named !== settings.region) {
    throw config(
      root,
      `key is in ${named} and region says ${settings.region}: leave out region, or name the key there`,
    );
  }
  return { region: settings.region ?? named, endpoint, fips, connections, idleTimeout };
}

/** Whether nobody on the network can read what is sent to `url`. */
export function isConfidential(url: string): boolean {
  const parsed = URL.parse(url);
  return parsed?.protocol === 'https:' || (parsed?.protocol === 'http:' && isLoopback(parsed.hostname));
}

function config(root: string, what: string): ProviderError {
  return new ProviderError('CONFIG', `root ${root}: ${what}`);
}
