import type { Operation, PolicyRule } from '../../config/config.ts';
import { loadConfig } from '../../config/load.ts';
import type { Peer } from '../../policy/policy.ts';
import { quoted, ruleText } from '../../policy/remedy.ts';
import type { Suggestion } from '../../policy/suggestion.ts';
import { judge, type Question, type Verdict } from '../../policy/verdict.ts';
import { administer } from '../admin.ts';
import { EXIT, type ExitCode, usageError } from '../exit.ts';
import { type PolicyCase, readCases } from '../policy-cases.ts';
import { type KnownNames, knownNames, policyOf, unknownName } from '../policy-under-test.ts';
import { type CommandLine, count, plural, printResult, warn } from '../terminal.ts';

interface ConfigOptions {
  readonly config?: string;
  readonly agentUid?: number;
}

interface ExplainOptions extends ConfigOptions {
  readonly uid: number;
  readonly gid?: number;
  readonly groups: readonly number[];
  readonly on: string;
  readonly token?: string;
  readonly operation: string;
  readonly key: string;
  readonly partition: string;
  readonly root?: string;
}

/** What the rules say of one call, without an agent. @returns 4 when they deny it */
export async function explain(line: CommandLine, given: Record<string, unknown>): Promise<ExitCode> {
  const options = given as unknown as ExplainOptions;
  const { config } = loadConfig({ file: options.config });
  const question = questionOf(options, knownNames(config));
  const verdict = judge(policyOf(config, options.agentUid), question);
  const { peer, operation, key, partition, root } = question;
  const document = {
    allowed: verdict.isAllowed,
    ...{ caller: { ...peer, token: peer.token ?? null }, operation, key, partition, root: root ?? null },
    rules: verdict.rules.map(documentOf),
    reason: verdict.reason ?? null,
  };
  printResult(line, document, verdict.isAllowed ? allowedText(verdict) : `denied: ${verdict.reason}`);
  return verdict.isAllowed ? EXIT.ok : EXIT.denied;
}

function questionOf(options: ExplainOptions, known: KnownNames): Question {
  const { uid, gid, groups, on, token, operation, key, partition, root } = options;
  const named = [
    ['operation', operation],
    ['socket', on],
    ['token', token],
    ['root', root],
  ] as const;
  for (const [kind, name] of named) {
    const trouble = name === undefined ? undefined : unknownName(kind, name, known);
    if (trouble !== undefined) {
      throw usageError(trouble);
    }
  }
  if (key === '') {
    throw usageError('the name of the key is empty');
  }
  const peer: Peer = { uid, gid: gid ?? uid, groups, socket: on, token };
  return { peer, operation: operation as Operation, key, partition, root };
}

/** For scripts: what is not bounded is null. */
function documentOf({ name, quota, requireContext, create, roots, operations, blindIndexPerSecond }: PolicyRule) {
  return {
    name,
    quota: {
      requestsPerSecond: quota.requestsPerSecond ?? null,
      bytesPerSecond: quota.bytesPerSecond ?? null,
      inFlight: quota.inFlight ?? null,
      blindIndexPerSecond: operations.includes('blindIndex') ? blindIndexPerSecond : null,
    },
    requireContext,
    create: create === false ? 0 : Number.isFinite(create.max) ? create.max : null,
    roots,
  };
}

function allowedText({ rules }: Verdict): string {
  return rules
    .map((rule) => {
      const { quota, requireContext, create, roots } = documentOf(rule);
      const bounds = [
        quota.requestsPerSecond === null ? [] : `${count(quota.requestsPerSecond)} requests a second`,
        quota.bytesPerSecond === null ? [] : `${count(quota.bytesPerSecond)} bytes a second`,
        quota.inFlight === null ? [] : `${count(quota.inFlight)} in flight`,
        quota.blindIndexPerSecond === null ? [] : `${count(quota.blindIndexPerSecond)} values for indexes a second`,
      ].flat();
      return [
        `allowed by rule ${quoted(rule.name)}`,
        `  quota           ${bounds.join(', ') || '-'}`,
        `  wanted context  ${requireContext.map(quoted).join(', ') || '-'}`,
        `  makes keys      ${create === 0 ? '-' : create === null ? 'any number' : `${count(create)} at most`}`,
        `  roots           ${roots.join(', ') || '-'}`,
      ].join('\n');
    })
    .join('\n');
}

interface Failure {
  readonly case: string;
  readonly source: string;
  readonly call: string;
  readonly expected: string;
  readonly got: string;
  readonly reason: string | null;
}

/** Holds the rules to a table. @returns 1 when they say something else of a call */
export async function test(line: CommandLine, options: ConfigOptions, file: string): Promise<ExitCode> {
  const { config } = loadConfig({ file: options.config });
  const policy = policyOf(config, options.agentUid);
  const cases = readCases(file, knownNames(config));
  const calls = cases.flatMap((one) => one.operations.map((operation) => ({ one, operation })));
  const failures = calls.flatMap(({ one, operation }) => {
    const verdict = judge(policy, { ...one, operation });
    return isAsExpected(one, verdict) ? [] : [failureOf(one, operation, verdict)];
  });
  const passed = calls.length - failures.length;
  const isOk = failures.length === 0;
  const total = `${count(passed)} of ${plural(calls.length, 'call')} as expected`;
  printResult(line, { ok: isOk, passed, failed: failures }, [...failures.map(difference), total].join('\n'));
  return isOk ? EXIT.ok : EXIT.failed;
}

function isAsExpected({ expect, rule }: PolicyCase, { isAllowed, rules }: Verdict): boolean {
  return isAllowed === (expect === 'allow') && (rule === undefined || rules.some(({ name }) => name === rule));
}

function failureOf(
  { name, source, peer, key, partition, root, expect, rule }: PolicyCase,
  operation: Operation,
  { isAllowed, rules, reason }: Verdict,
): Failure {
  const who = `uid ${peer.uid} on ${peer.socket}${peer.token === undefined ? '' : ` with token ${peer.token}`}`;
  const what = `${operation} ${quoted(key)}${partition === '' ? '' : ` of ${quoted(partition)}`}${root === undefined ? '' : ` under ${root}`}`;
  return {
    case: name,
    source,
    call: `${who}: ${what}`,
    expected: `${expect}${rule === undefined ? '' : ` by ${quoted(rule)}`}`,
    got: isAllowed ? `allow by ${rules.map((each) => quoted(each.name)).join(', ')}` : 'deny',
    reason: reason ?? null,
  };
}

function difference({ case: name, source, call, expected, got, reason }: Failure): string {
  return [
    `${source}: ${quoted(name)}: ${call}`,
    `- ${expected}`,
    `+ ${got}`,
    ...(reason === null ? [] : [reason.replace(/^/gm, '  ')]),
    '',
  ].join('\n');
}

/** Rules to paste for what the agent has denied. */
export async function suggest(line: CommandLine): Promise<void> {
  const suggestion = (await administer(line, { policy: { action: 'suggest' } })) as Suggestion;
  const { rules, missed } = suggestion;
  const text =
    rules.length === 0
      ? '# nothing has been denied since the agent started that a rule should allow'
      : `# Under policy.rules, after reading: what was asked for is not always what should be had.\n${rules.map(ruleText).join('\n')}`;
  printResult(line, suggestion, text);
  if (missed > 0 && !line.json) {
    warn(`${plural(missed, 'denial')} not kept, because there were too many different ones`);
  }
}
