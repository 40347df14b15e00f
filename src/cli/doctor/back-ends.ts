import { isService } from '../../config/checks.ts';
import type { Config, KeystoreConfig } from '../../config/config.ts';
import { DEFAULT_KEYSTORE } from '../../config/keystores.ts';
import { isLoopback } from '../../loopback.ts';
import { durabilityFinding } from './durability.ts';
import { type Finding, ok, warning } from './finding.ts';

/** What a configuration keeps keys in, where foreign libraries run, and what it opens to the network. */
export function backEndFindings(config: Config): Finding[] {
  const keystores = [...config.keystores].map(([name, keystore]) => keystoreFinding(name, keystore));
  return [...keystores, custodyFinding(config), ...probeFindings(config)];
}

function keystoreFinding(name: string, keystore: KeystoreConfig): Finding {
  const check = name === DEFAULT_KEYSTORE ? 'keystore' : `keystore ${name}`;
  const section = name === DEFAULT_KEYSTORE ? 'keystore' : `keystores.${name}`;
  switch (keystore.kind) {
    case 'postgres':
      return ok(check, 'postgres: outlives the agent as long as its server is backed up');
    case 'openbao-kv':
      return ok(check, `openbao-kv at ${keystore.vault.address}: outlives the agent as long as that is backed up`);
    default:
      return { ...durabilityFinding(keystore, section), check };
  }
}

/** Where foreign libraries run. */
export function custodyFinding({ custody, roots, keystores }: Config): Finding {
  const services = [...roots.filter(isService), ...[...keystores.values()].filter(isService)];
  if (services.length === 0) {
    return ok('custody', 'no provider or keystore needs a foreign library: the agent opens no connection');
  }
  const names = services.map((service) => ('provider' in service ? service.provider : service.kind));
  const shown = [...new Set(names)].join(', ');
  return custody === 'process'
    ? ok('custody', `${shown} in processes of their own: the agent opens no connection`)
    : warning(
        'custody',
        `${shown} in the agent: it opens connections, and unwrapped secrets stay on its heap`,
        'custody: process, with the native engine',
      );
}

/** What the port for probes tells, and whom; none without a port. */
export function probeFindings({ admin: { port, host } }: Config): Finding[] {
  if (port === undefined) {
    return [];
  }
  const place = `/livez, /readyz and /startupz on port ${port} of ${host}`;
  return [
    isLoopback(host)
      ? ok('probes', `${place}, for this machine or pod only`)
      : warning(
          'probes',
          `${place}, for whoever reaches it: whether the agent can serve and in general words why not, nothing of keys`,
          'let a network policy admit the kubelet only, or set admin.host: 127.0.0.1',
        ),
  ];
}
