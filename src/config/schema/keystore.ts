/** The keys of a keystore. */
import * as v from 'valibot';
import { absolutePath, duration, flag, integer, oneOf, text } from '../readers.ts';
import { key, leaf, optionalKey, section } from './key.ts';
import { vaultKeys } from './servers.ts';

export const keystoreKeys = {
  kind: key(oneOf('memory', 'sqlite', 'bundle', 'postgres', 'openbao-kv'), 'sqlite', {
    meaning:
      'Where wrapped keys are kept: sqlite (a file), postgres, openbao-kv (KV version 2 of OpenBao or Vault), bundle (an export, read only), memory (nowhere).',
    danger: 'with memory every token dies with the agent.',
  }),
  path: v.optional(
    leaf(absolutePath, {
      meaning: 'For sqlite and bundle: the database file, or the export.',
      computed: 'for sqlite: keystore.sqlite in the state folder',
      example: '/var/lib/dekd/keystore.sqlite',
    }),
  ),
  acceptLoss: key(flag, false, {
    meaning:
      'Under Kubernetes, accepts a keystore that dies with the pod: memory, or sqlite on an emptyDir or the image.',
    danger: 'with the pod, every token made by it becomes unreadable.',
  }),
  postgres: section(
    {
      url: v.optional(
        leaf(text('a URL', 1024), {
          meaning: 'postgres://USER@HOST:PORT/DATABASE without a password, or with ?host=/FOLDER for a Unix socket.',
          computed: 'the variables of libpq (PGHOST, PGDATABASE, …)',
          example: 'postgres://dekd@db.example/dekd',
        }),
      ),
      passwordFile: optionalKey(absolutePath, {
        meaning: 'File with the password, read for each new connection.',
        example: '/var/run/secrets/db-password',
      }),
      schema: key(text('a name', 63), 'dekd', { meaning: 'Schema that the tables are in.' }),
      caFile: optionalKey(absolutePath, {
        meaning: 'Certificates (PEM) that sign the server, instead of those of the system.',
        example: '/etc/dekd/db-ca.pem',
      }),
      tls: key(oneOf('verify-full', 'disable'), 'verify-full', {
        meaning:
          'verify-full takes only a server whose certificate is signed and has its name; disable is for Unix sockets and loopback addresses.',
      }),
      connections: key(integer(1, 64), 4, { meaning: 'Connections at once.' }),
      timeout: key(duration('100ms', '1m'), '5s', { meaning: 'Time for one operation.' }),
      migrate: key(flag, true, {
        meaning: 'Make and upgrade the tables at start. With false the role needs no right to change the schema.',
      }),
    },
    { meaning: 'For postgres. It needs the package pg.', isForSome: true },
  ),
  vault: section(vaultKeys, {
    meaning: 'For openbao-kv: the server.',
    like: 'roots.NAME.vault',
    example: '{ address: https://vault.example:8200, auth: { method: kubernetes, role: dekd } }',
  }),
  kv: section(
    {
      mount: key(text('a path', 128), 'secret', { meaning: 'Mount of the engine, KV version 2.' }),
      prefix: key(text('a path', 128), 'dekd', { meaning: 'Path below the mount that is the keystore.' }),
    },
    { meaning: 'For openbao-kv: where in it.', isForSome: true },
  ),
};
