/** Keys of applications from before: from files, and for `dekd dev` from the variables that those had them in. */
import { strictBytes } from '../bytes.ts';
import type { Finding } from './checks.ts';
import { type Config, type LegacyKeyConfig, VariableKey } from './config.ts';
import type { Environment } from './environment.ts';
import { type ConfigProblem, isMapping, shownValue } from './problems.ts';
import { kid as kidReader } from './schema/names.ts';
import type { FileConfig } from './schema.ts';

const ONE_KEY = 'CONNECTOR_CRED_KEY';
const MANY_KEYS = 'CONNECTOR_CRED_KEYS';
const ACTIVE_KID = 'CONNECTOR_CRED_ACTIVE_KID';
/** What the only key of a variable is called where nothing else is said. */
const FIRST_KID = 'v1';
const KEY_LENGTH = 32;

/** Appends to `problems` what keeps the agent from starting; bytes of keys are in none of them. */
export function legacyKeysOf(
  files: FileConfig['legacy']['keys'],
  env: Environment,
  dev: boolean,
  problems: ConfigProblem[],
): LegacyKeyConfig[] {
  const keys: LegacyKeyConfig[] = files.map(({ kid, keyFile }) => ({ kid, source: keyFile }));
  keys.push(...(dev ? keysOfVariables(env, problems) : refusedVariables(env, problems)));
  return keys;
}

/** What keeps `run` from starting with these keys. */
export function legacyFindings({ legacy: { keys } }: Pick<Config, 'legacy'>): Finding[] {
  const kids = keys.map(({ kid }) => kid);
  return keys.flatMap(({ kid, source }, index) =>
    kids.indexOf(kid) === index
      ? []
      : [
          {
            path: typeof source === 'string' ? ['legacy', 'keys', index, 'kid'] : ['legacy', 'keys'],
            message: `the kid ${shownValue(kid)} is used twice`,
          },
        ],
  );
}

/** What an application may have in its environment, an agent may not: it is inherited, and kept in manifests. */
function refusedVariables(env: Environment, problems: ConfigProblem[]): [] {
  for (const variable of [ONE_KEY, MANY_KEYS]) {
    if (env[variable]) {
      problems.push({
        path: 'legacy.keys',
        source: variable,
        message:
          'key material in a variable is refused outside of dekd dev; put it in a 0600 file and name that in keyFile',
      });
    }
  }
  return [];
}

function keysOfVariables(env: Environment, problems: ConfigProblem[]): LegacyKeyConfig[] {
  const active = env[ACTIVE_KID] || undefined;
  const named: [string, string, string][] = [];
  if (env[MANY_KEYS]) {
    named.push(
      ...namesAndTexts(env[MANY_KEYS], problems).map(
        ([kid, text]) => [MANY_KEYS, kid, text] as [string, string, string],
      ),
    );
  }
  if (env[ONE_KEY]) {
    named.push([ONE_KEY, env[MANY_KEYS] ? FIRST_KID : (active ?? FIRST_KID), env[ONE_KEY]]);
  }
  if (active !== undefined && !named.some(([, kid]) => kid === active)) {
    const message = `there is no key of kid ${shownValue(active)}; there are ${named.map(([, kid]) => shownValue(kid)).join(', ') || 'none'}`;
    problems.push({ path: 'legacy.keys', source: ACTIVE_KID, message });
  }
  return named.flatMap(([variable, kid, text]) => {
    const problem = (message: string): [] => {
      problems.push({ path: 'legacy.keys', source: variable, message });
      return [];
    };
    if (kidReader.read(kid) === undefined) {
      return problem(`expected ${kidReader.expected}`);
    }
    const bytes = strictBytes(text, 'base64');
    if (bytes === undefined) {
      return problem(`the key of kid ${shownValue(kid)} is not canonical base64 with padding`);
    }
    if (bytes.length !== KEY_LENGTH) {
      return problem(`the key of kid ${shownValue(kid)} has ${bytes.length} bytes, not ${KEY_LENGTH}`);
    }
    return [{ kid, source: new VariableKey(variable, bytes) }];
  });
}

/** The pairs of a flat JSON object of texts, those that are there twice included: a parser would keep the last alone. */
function namesAndTexts(json: string, problems: ConfigProblem[]): [string, string][] {
  const refused = (): [] => {
    const message = 'expected a JSON object of kids to base64 keys, such as {"v1":"…","v2":"…"}';
    problems.push({ path: 'legacy.keys', source: MANY_KEYS, message });
    return [];
  };
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch {
    return refused();
  }
  if (!isMapping(parsed) || !Object.values(parsed).every((value) => typeof value === 'string')) {
    return refused();
  }
  const found = [...json.matchAll(/("(?:[^"\\]|\\.)*")\s*:\s*("(?:[^"\\]|\\.)*")/g)];
  const pairs = found.map(([, name, value]) => [JSON.parse(name!), JSON.parse(value!)] as [string, string]);
  return pairs.length === 0 ? refused() : pairs;
}
