import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { socketCandidates } from '../../client/socket-place.ts';
import type { PingReply } from '../../client/types.ts';
import { loadConfig } from '../../config/load.ts';
import { DEFAULT_CONFIG_FILE } from '../../config/paths.ts';
import { DekdError } from '../../errors.ts';
import { administer } from '../admin.ts';
import { openClient } from '../agent-client.ts';
import { backEndFindings } from '../doctor/back-ends.ts';
import { durabilityFinding } from '../doctor/durability.ts';
import { type Finding, failure, ok, warning } from '../doctor/finding.ts';
import { hostFindings, lockFinding, memlock } from '../doctor/host.ts';
import { legacyFindings } from '../doctor/legacy.ts';
import { recipientFindings } from '../doctor/recipients.ts';
import { adminSocketFindings, dataSocketFindings } from '../doctor/sockets.ts';
import { EXIT } from '../exit.ts';
import { type CommandLine, coloured, printResult } from '../terminal.ts';

const PROBE_TIMEOUT_MS = 2_000;

/** @returns 1 when something fails, 3 when that is only that no agent answers */
export async function doctor(line: CommandLine, options: Record<string, unknown>): Promise<number> {
  const findings: Finding[] = [...(await hostFindings())];
  findings.push(...configFindings(options.config as string | undefined));
  const agent = await agentFindings(line);
  findings.push(...agent.findings);
  const failures = findings.filter(({ level }) => level === 'fail');
  printResult(line, { ok: failures.length === 0, findings }, findings.map(shown).join('\n'));
  if (failures.length === 0) {
    return EXIT.ok;
  }
  return failures.every(({ check }) => check === 'agent') ? EXIT.unreachable : EXIT.failed;
}

function configFindings(file: string | undefined): Finding[] {
  try {
    const loaded = loadConfig({ file });
    const findings = loaded.warnings.map((text) => warning('configuration', text, 'see dekd config sample'));
    const source = loaded.file ?? 'no file; variables say what run needs';
    return [
      ...findings,
      ok('configuration', source),
      ...backEndFindings(loaded.config),
      ...recipientFindings(loaded.config),
      ...legacyFindings(loaded.config),
    ];
  } catch (error) {
    const { DEKD_CONFIG: named, ENCRYPTION_PROVIDER: provider } = process.env;
    if (file === undefined && !named && !provider && !existsSync(DEFAULT_CONFIG_FILE)) {
      return [ok('configuration', 'no file; dekd dev needs none')];
    }
    return [failure('configuration', (error as Error).message, 'dekd config sample shows every key')];
  }
}

/** The part of the agent's status that doctor reads. */
interface AgentStatus {
  readonly ready: boolean;
  readonly dev: boolean;
  readonly pid: number;
  readonly engine: { readonly lockReason: string; readonly fallback: string | null };
  readonly rollback: string;
  readonly sameUid: boolean;
  readonly state: string | null;
  readonly keystore: { readonly kind: string; readonly ok: boolean; readonly detail: string };
  readonly hardening: readonly string[];
}

async function agentFindings(line: CommandLine): Promise<{ findings: Finding[] }> {
  const socket = socketCandidates(line.socket).find((path) => existsSync(path));
  if (socket === undefined) {
    const tried = socketCandidates(line.socket).join(', ');
    return {
      findings: [
        failure(
          'agent',
          `no agent: tried ${tried}`,
          `start one with ${line.self} dev, or name its socket with --socket`,
        ),
      ],
    };
  }
  const findings = dataSocketFindings(socket);
  const admin = join(dirname(socket), 'admin.sock');
  if (existsSync(admin)) {
    findings.push(...adminSocketFindings(admin));
  }
  let reply: PingReply;
  try {
    await using agent = await openClient({ ...line, socket });
    reply = await agent.client.ping({ timeoutMs: PROBE_TIMEOUT_MS });
  } catch (error) {
    const { message } = DekdError.from(error);
    return {
      findings: [...findings, failure('agent', message, `${line.self} dev starts one; an old socket is replaced`)],
    };
  }
  findings.push(ok('agent', `${reply.agent}, ${reply.engine} engine, answers in ${reply.roundTripMs.toFixed(1)} ms`));
  const status = await agentStatus({ ...line, socket });
  findings.push(lockFinding('agent lock', reply.lockLevel, status?.engine.lockReason ?? ''));
  if (status === undefined) {
    const found = "the admin socket takes only the agent's own user and root";
    findings.push(warning('agent status', found, 'run doctor as one of them for the rest'));
    return { findings };
  }
  return { findings: [...findings, ...statusFindings(status)] };
}

function statusFindings(status: AgentStatus): Finding[] {
  const findings: Finding[] = [];
  if (!status.ready) {
    const found = status.keystore.ok ? 'its root does not answer' : `its keystore fails: ${status.keystore.detail}`;
    findings.push(failure('agent ready', found, 'see the log of the agent, and dekd status'));
  }
  if (existsSync(`/proc/${status.pid}/limits`)) {
    findings.push(memlock(`/proc/${status.pid}/limits`, 'agent memlock', 'the agent'));
  }
  findings.push(
    status.hardening.includes('not dumpable')
      ? ok('agent hardening', status.hardening.join(', '))
      : warning(
          'agent hardening',
          'no core limit, dumpable: a crash may write keys to a file',
          'use the native engine',
        ),
  );
  const { kind } = status.keystore;
  const path = kind === 'sqlite' && status.state !== null ? join(status.state, 'keystore.sqlite') : undefined;
  const durability = durabilityFinding({ kind, path, acceptLoss: status.dev });
  findings.push({ ...durability, check: 'agent keystore' });
  if (status.rollback === 'undetected') {
    const found = 'a keystore put back to an older state is not noticed';
    findings.push(warning('rollback', found, 'give the agent a state folder: state: DIR'));
  }
  if (status.sameUid && !status.dev) {
    const found = "callers of the agent's own user are admitted: they can read its files";
    findings.push(warning('callers', found, 'run applications as another user, with socket.allowOwnUid: false'));
  }
  return findings;
}

async function agentStatus(line: CommandLine): Promise<AgentStatus | undefined> {
  try {
    return (await administer(line, { status: {} })) as AgentStatus;
  } catch {
    return undefined;
  }
}

const MARKS = { ok: ['ok  ', 'green'], warn: ['warn', 'yellow'], fail: ['FAIL', 'red'] } as const;

function shown({ check, level, found, remedy }: Finding): string {
  const [mark, colour] = MARKS[level];
  const todo = remedy === undefined ? '' : `\n        to do: ${remedy}`;
  return `${coloured(mark, colour)}  ${check}: ${found}${todo}`;
}
