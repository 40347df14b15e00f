/** Every metric there is: its name, its type, what it counts and by what. docs/observability.md has the same list. */

export type MetricType = 'counter' | 'gauge' | 'histogram';

export interface MetricFamily {
  readonly type: MetricType;
  readonly help: string;
  /** Names of labels; their values are of closed sets or of the configuration, but for `key`, which is asked for. */
  readonly labels: readonly string[];
}

export const METRICS = {
  dekd_build_info: {
    type: 'gauge',
    help: 'Always 1: version of the agent, of Node, and the engine that holds the keys.',
    labels: ['version', 'node', 'engine', 'lock_level'],
  },
  dekd_ready: { type: 'gauge', help: 'Whether requests can be served, as /readyz says.', labels: [] },
  dekd_operations_total: {
    type: 'counter',
    help: 'Operations that ended, items of batches one by one, by outcome: ok or the code of the error.',
    labels: ['operation', 'outcome'],
  },
  dekd_batches_total: { type: 'counter', help: 'Batches that were answered.', labels: [] },
  dekd_request_duration_seconds: {
    type: 'histogram',
    help: 'From the arrival of a whole request to its answer; of a stream, to its end.',
    labels: ['operation', 'form'],
  },
  dekd_plaintext_bytes_total: {
    type: 'counter',
    help: 'Bytes of plaintext that were sealed, and that were opened.',
    labels: ['direction'],
  },
  dekd_requests_in_flight: {
    type: 'gauge',
    help: 'Requests that wait for a key, a worker or the rest of their stream.',
    labels: [],
  },
  dekd_streams_open: { type: 'gauge', help: 'Streams that are open.', labels: [] },
  dekd_connections: { type: 'gauge', help: 'Connections that are open.', labels: ['socket'] },
  dekd_connections_limit: { type: 'gauge', help: 'Connections there may be on the data socket.', labels: [] },
  dekd_connections_accepted_total: { type: 'counter', help: 'Connections that were accepted.', labels: [] },
  dekd_connections_refused_total: {
    type: 'counter',
    help: 'Connections that were refused: over the limit, or of callers who are not known.',
    labels: [],
  },
  dekd_frames_refused_total: {
    type: 'counter',
    help: 'Frames over the limit, unreadable or too slow; each closed its connection.',
    labels: [],
  },
  dekd_arena_slots: { type: 'gauge', help: 'Keys that the key table can hold.', labels: [] },
  dekd_arena_slots_used: {
    type: 'gauge',
    help: 'Keys in the key table: data keys, KEKs and those of streams.',
    labels: [],
  },
  dekd_arena_evictions_total: { type: 'counter', help: 'Keys that gave their slot up for others.', labels: [] },
  dekd_arena_reloads_total: {
    type: 'counter',
    help: 'Evicted keys that were unwrapped again from memory.',
    labels: [],
  },
  dekd_keys_known: { type: 'gauge', help: 'Data keys that are known, loaded or wrapped.', labels: [] },
  dekd_keys_loaded: { type: 'gauge', help: 'Data keys in the key table.', labels: [] },
  dekd_keys_frozen: { type: 'gauge', help: 'Freezes that are in force.', labels: [] },
  dekd_key_cache_hits_total: { type: 'counter', help: 'Uses of keys that were there.', labels: [] },
  dekd_key_cache_misses_total: {
    type: 'counter',
    help: 'Uses of keys that had to be looked up, made or rotated first.',
    labels: [],
  },
  dekd_key_loads_total: {
    type: 'counter',
    help: 'Data keys that were put into the key table, those made included.',
    labels: [],
  },
  dekd_oldest_key_age_seconds: {
    type: 'gauge',
    help: 'Age of the oldest version that seals, of the keys that are known.',
    labels: [],
  },
  dekd_key_age_seconds: {
    type: 'gauge',
    help: 'The same by name of the key; only with metrics.keys, and of 1,000 names at most.',
    labels: ['key'],
  },
  dekd_provider_calls_total: {
    type: 'counter',
    help: 'Calls to providers of root keys.',
    labels: ['root', 'operation', 'outcome'],
  },
  dekd_provider_call_duration_seconds: {
    type: 'histogram',
    help: 'How long calls to providers of root keys took.',
    labels: ['root', 'operation'],
  },
  dekd_provider_breaker_open: {
    type: 'gauge',
    help: 'Breaker of a root: 0 closed, 0.5 half-open, 1 open.',
    labels: ['root'],
  },
  dekd_provider_answer_age_seconds: {
    type: 'gauge',
    help: 'Time since the provider of a root last answered.',
    labels: ['root'],
  },
  dekd_root_proof_age_seconds: {
    type: 'gauge',
    help: 'Time since the provider last proved the KEK of a root that was proved longest ago: how old a revocation may be.',
    labels: ['root'],
  },
  dekd_keystore_calls_total: {
    type: 'counter',
    help: 'Calls to keystores.',
    labels: ['keystore', 'operation', 'outcome'],
  },
  dekd_keystore_call_duration_seconds: {
    type: 'histogram',
    help: 'How long calls to keystores took.',
    labels: ['keystore', 'operation'],
  },
  dekd_custodian_up: {
    type: 'gauge',
    help: 'Whether a custodian process runs; none runs when there is nothing to do.',
    labels: ['role'],
  },
  dekd_custodian_crashes_total: {
    type: 'counter',
    help: 'Custodians that ended without being told to.',
    labels: ['role'],
  },
  dekd_pool_workers: { type: 'gauge', help: 'Threads that there may be for large work.', labels: [] },
  dekd_pool_threads: { type: 'gauge', help: 'Threads for large work that run.', labels: [] },
  dekd_pool_waiting: { type: 'gauge', help: 'Slices of large requests that wait for their turn.', labels: [] },
  dekd_pool_held_bytes: { type: 'gauge', help: 'Memory that large requests under way hold.', labels: [] },
  dekd_pool_requests_total: {
    type: 'counter',
    help: 'Large requests, by where they were worked on.',
    labels: ['place'],
  },
  dekd_pool_deaths_total: { type: 'counter', help: 'Threads for large work that died.', labels: [] },
  dekd_lane_held_bytes: { type: 'gauge', help: 'Memory shared with clients through the lane.', labels: [] },
  dekd_lane_budget_bytes: {
    type: 'gauge',
    help: 'Memory that may be shared with clients through the lane.',
    labels: [],
  },
  dekd_legacy_envelopes_total: {
    type: 'counter',
    help: 'Envelopes from before that were opened, migrated, or did not open.',
    labels: ['result'],
  },
  dekd_audit_records_total: { type: 'counter', help: 'Lines of the audit log that were written.', labels: [] },
  dekd_audit_records_lost_total: {
    type: 'counter',
    help: 'Records that were never written; the log says how many, where.',
    labels: [],
  },
  dekd_audit_requests_refused_total: {
    type: 'counter',
    help: 'Requests refused because they could not have been recorded.',
    labels: [],
  },
  dekd_audit_waiting_bytes: { type: 'gauge', help: 'Audit records that are not written yet.', labels: [] },
  dekd_audit_failing: { type: 'gauge', help: 'Whether the audit log cannot be written at the moment.', labels: [] },
  dekd_event_loop_active_seconds_total: {
    type: 'counter',
    help: 'Time in which the event loop had something to do; the rest it waited.',
    labels: [],
  },
  dekd_event_loop_delay_seconds: {
    type: 'histogram',
    help: 'How late a timer of 100 ms was; measured from the first reading on.',
    labels: [],
  },
  process_cpu_seconds_total: { type: 'counter', help: 'User and system time of the agent.', labels: [] },
  process_resident_memory_bytes: { type: 'gauge', help: 'Resident memory of the agent.', labels: [] },
  process_open_fds: { type: 'gauge', help: 'Open file descriptors.', labels: [] },
  process_max_fds: { type: 'gauge', help: 'File descriptors that may be open.', labels: [] },
  process_start_time_seconds: { type: 'gauge', help: 'When the agent started, in seconds since 1970.', labels: [] },
} as const satisfies Readonly<Record<string, MetricFamily>>;

export type MetricName = keyof typeof METRICS;
/** Families of one type. */
export type MetricOf<T extends MetricType> = {
  [Name in MetricName]: (typeof METRICS)[Name]['type'] extends T ? Name : never;
}[MetricName];
