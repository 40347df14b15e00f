/** `traceparent` of W3C Trace Context, level 1: https://www.w3.org/TR/trace-context/#traceparent-header */

/** Version 00: what this agent carries. Ids of zeros only are not valid (sections 3.2.2.3 and 3.2.2.4). */
const TRACEPARENT = /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/;

/** The text when it is a traceparent that may be carried on, else empty: what cannot be read is as if it had not come. */
export function carriedTraceparent(text: string): string {
  return TRACEPARENT.test(text) ? text : '';
}

/** The id of the trace, 32 hex digits; undefined without one. @param traceparent as `carriedTraceparent` gave it */
export function traceIdOf(traceparent: string): string | undefined {
  return traceparent === '' ? undefined : traceparent.slice(3, 35);
}
