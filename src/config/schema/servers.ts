/** How servers are reached: what all have, and a Vault or OpenBao. */
import * as v from 'valibot';
import { absolutePath, duration, flag, integer, oneOf, text } from '../readers.ts';
import { key, leaf, optionalKey, section } from './key.ts';

export const serviceKeys = {
  timeout: key(duration('100ms', '1m'), '3s', {
    meaning: 'Time for one call, waiting for a connection and retries included.',
  }),
  retries: key(integer(0, 10), 2, { meaning: 'Attempts after the first, within timeout; 0 is exactly one request.' }),
  connections: key(integer(1, 256), 8, { meaning: 'Connections at once.' }),
  idleTimeout: key(duration('1s', '10m'), '30s', { meaning: 'Time for which an unused connection is kept.' }),
};

/** A Vault or OpenBao server, and how to log in. */
export const vaultKeys = {
  address: optionalKey(text('a URL', 512), {
    meaning:
      'URL of the server. http is for loopback addresses only. VAULT_ADDR sets it for ENCRYPTION_PROVIDER=vault.',
    example: 'https://vault.example:8200',
  }),
  namespace: optionalKey(text('a namespace'), {
    meaning: 'Namespace that mounts and login are in.',
    example: 'team-a',
  }),
  caFile: optionalKey(absolutePath, {
    meaning: 'Certificates (PEM) that sign the server, instead of those of the system.',
    example: '/etc/dekd/vault-ca.pem',
  }),
  serverName: optionalKey(text('a host name'), {
    meaning: 'Name that the certificate must have, where it is not that of the address.',
    example: 'vault.internal',
  }),
  ...serviceKeys,
  auth: section(
    {
      method: key(oneOf('token', 'approle', 'kubernetes', 'jwt'), 'token', {
        meaning: 'Auth method. Files are read again at every login.',
      }),
      mount: optionalKey(text('a path'), {
        meaning: 'For approle, kubernetes and jwt: path at which the method is mounted.',
        computed: 'the name of the method',
        example: 'approle',
      }),
      tokenFile: optionalKey(absolutePath, {
        meaning: 'For token: the file with the token.',
        computed: 'the variable VAULT_TOKEN',
        example: '/var/run/secrets/vault-token',
      }),
      roleId: optionalKey(text('a role id'), {
        meaning: 'For approle: the role id. Either this or roleIdFile.',
        example: '3f1c9a52-7c1e-4a5b-9c0e-2f7d1b6a8e44',
      }),
      roleIdFile: optionalKey(absolutePath, {
        meaning: 'For approle: the file with the role id.',
        example: '/etc/dekd/role-id',
      }),
      secretIdFile: optionalKey(absolutePath, {
        meaning: 'For approle: the file with the secret id. Either this or secretIdAws.',
        computed: 'the variable VAULT_SECRET_ID',
        example: '/var/run/secrets/secret-id',
      }),
      secretIdWrapped: key(flag, false, {
        meaning:
          'For approle: the file or variable holds a response-wrapping token instead, which is unwrapped at the first login.',
      }),
      secretIdAws: optionalKey(text('a name or ARN'), {
        meaning: 'For approle: name or ARN of the secret in AWS Secrets Manager that is the secret id.',
        example: 'dekd/secret-id',
      }),
      role: optionalKey(text('a role'), { meaning: 'For kubernetes and jwt: the role to log in as.', example: 'dekd' }),
      jwtFile: v.optional(
        leaf(absolutePath, {
          meaning: 'For kubernetes and jwt: the file with the token to present.',
          computed: '/var/run/secrets/kubernetes.io/serviceaccount/token',
          example: '/var/run/secrets/tokens/vault',
        }),
      ),
    },
    { meaning: 'The login.' },
  ),
};
