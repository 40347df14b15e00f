/** Bars of the policy: microseconds for one question, in this process. */
import { parseConfig } from '../../src/config/load.ts';
import { compilePolicy } from '../../src/policy/policy.ts';
import { type Bar, figure } from './bar.ts';

const RULES = 50;
const KEYS = 200;
const ROUNDS = 20_000;
const TURNS = 5;

/** What an agent with fifty rules is asked on the way of each request. */
function callerOfFiftyRules(quota: string) {
  const rules = Array.from(
    { length: RULES },
    (_, index) =>
      `    - { name: r${index}, callers: { uid: 1000 }, keys: 'team-${index}-*', operations: [encrypt, decrypt]${quota} }`,
  );
  const yaml = `roots: { main: { provider: local, keyFile: /k, allowLocalRoot: true } }\nstate: /s\npolicy:\n  rules:\n${rules.join('\n')}\n`;
  const options = { native: true, ownUid: 500, dev: false, allowOwnUid: false, roots: ['main'] };
  const policy = compilePolicy(parseConfig(yaml).config.policy.rules, options);
  return policy.callerFor({ uid: 1000, gid: 1000, groups: [], socket: 'data' });
}

/** Median of the turns, in microseconds a question. */
function measured(ask: (key: string, index: number) => void): number {
  const keys = Array.from({ length: KEYS }, (_, index) => `team-${index % RULES}-${index}`);
  const turns = Array.from({ length: TURNS }, () => {
    const begun = performance.now();
    for (let round = 0; round < ROUNDS; round++) {
      ask(keys[round % KEYS]!, round);
    }
    return ((performance.now() - begun) * 1000) / ROUNDS;
  });
  return turns.sort((a, b) => a - b)[TURNS >> 1]!;
}

function bar(
  name: string,
  quota: string,
  ask: (caller: ReturnType<typeof callerOfFiftyRules>) => (key: string) => void,
): Bar {
  return {
    name: `policy: ${name}, µs`,
    atMost: 1,
    async measure() {
      const micros = measured(ask(callerOfFiftyRules(quota)));
      return { ratio: micros, detail: `${figure(micros)} µs, ${RULES} rules, ${KEYS} keys` };
    },
  };
}

export const policyBars: readonly Bar[] = [
  bar('one request of a caller of 50 rules', '', (caller) => (key) => caller.authorize('encrypt', key, 'acme')),
  bar('the same with a quota in every rule', ', quota: { requestsPerSecond: 1000000000 }', (caller) => (key) => {
    caller.charge({ operation: 'encrypt', key, partition: 'acme', items: 1, bytes: 64 });
    caller.authorize('encrypt', key, 'acme');
  }),
];
