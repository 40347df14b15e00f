/** Spans of the calls of a client, made with what the application brings. */
import { OPERATION } from '../protocol/request-reader.ts';
import type { Call } from './transport.ts';
import type { Tracer } from './types.ts';

/** The span of one call that is under way. */
export interface CallTrace {
  readonly traceparent: string;
  /** @param failure what the call rejects with; undefined when it did what it was to do */
  end(failure: unknown): void;
}

/** Numbers of `SpanKind.CLIENT` and `SpanStatusCode.ERROR` of @opentelemetry/api. */
const CLIENT = 2;
const ERROR = 2;

/** What begins the span of a call, and keeps the call apart from others: a frame has one trace. */
export function tracing(tracer: Tracer, withKeys: boolean): (call: Call) => void {
  const names = Object.fromEntries(Object.entries(OPERATION).map(([name, operation]) => [operation, name]));
  return (call) => {
    const { operation, fields, binding, from = 0, to = 1 } = call;
    const name = operation === undefined ? Object.keys(fields ?? {})[0] : names[operation];
    const key = binding?.key;
    const span = tracer.startSpan(`dekd ${name}`, {
      kind: CLIENT,
      attributes: {
        'dekd.operation': name!,
        'dekd.items': to - from,
        ...(withKeys && key ? { 'dekd.key': key } : {}),
      },
    });
    const { traceId, spanId, traceFlags } = span.spanContext();
    call.sharing = 0;
    call.trace = {
      traceparent: `00-${traceId}-${spanId}-0${traceFlags & 1}`,
      end(failure) {
        const code = (failure as { code?: unknown } | undefined)?.code;
        span.setAttribute('dekd.outcome', failure === undefined ? 'ok' : typeof code === 'string' ? code : 'ABORTED');
        if (failure !== undefined) {
          span.setStatus({ code: ERROR });
        }
        span.end();
      },
    };
  };
}
