import type { WireReply } from './transport.ts';
import { type VaultCode, VaultError } from './vault-error.ts';

/** Reasons that are kept of one answer, and characters of each. */
const MAX_REASONS = 16;
const MAX_REASON_LENGTH = 512;

const CODE_OF: Readonly<Record<number, VaultCode>> = {
  400: 'BAD_REQUEST',
  401: 'FORBIDDEN',
  403: 'FORBIDDEN',
  404: 'NOT_FOUND',
  405: 'UNSUPPORTED',
  /** A replica that has not yet seen what was written before. */
  412: 'UNAVAILABLE',
  413: 'TOO_LARGE',
  429: 'RATE_LIMITED',
  /** A secondary for disaster recovery, and a performance standby. */
  472: 'UNAVAILABLE',
  473: 'UNAVAILABLE',
  501: 'UNSUPPORTED',
};

/** Statuses after which the request may have taken effect. */
const AMBIGUOUS: ReadonlySet<number> = new Set([408, 500, 502, 504]);

/** The failure that an answer outside 2xx is. A 403 is FORBIDDEN until somebody has looked at the token. */
export function statusFailure(place: string, { statusCode: status, body, headers }: WireReply): VaultError {
  const said = reasonsOf(body);
  const sealed = status === 503 && said.some((reason) => /\bsealed\b/i.test(reason));
  const code = sealed ? 'SEALED' : (CODE_OF[status] ?? (status >= 400 && status < 500 ? 'BAD_REQUEST' : 'UNAVAILABLE'));
  return new VaultError(code, messageOf(place, status, code), {
    status,
    said,
    retryAfterMs: code === 'RATE_LIMITED' || status === 503 ? retryAfterOf(headers['retry-after']) : undefined,
    ambiguous: AMBIGUOUS.has(status),
  });
}

function messageOf(place: string, status: number, code: VaultCode): string {
  if (status >= 300 && status < 400) {
    return `${place} redirects (${status}), which is not followed: set address to the active node or to the load balancer`;
  }
  return code === 'SEALED' ? `${place} is sealed` : `${place} answered ${status}`;
}

function reasonsOf(body: unknown): string[] {
  const errors = (body as { errors?: unknown } | null | undefined)?.errors;
  return Array.isArray(errors)
    ? errors
        .filter((reason): reason is string => typeof reason === 'string')
        .slice(0, MAX_REASONS)
        .map((reason) => reason.slice(0, MAX_REASON_LENGTH))
    : [];
}

/** Milliseconds; Vault gives seconds, a proxy perhaps a date. */
function retryAfterOf(header: string | undefined): number | undefined {
  if (header === undefined) {
    return undefined;
  }
  const ms = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined;
}
