import type { Lsn, NodeFacts } from '../topology/types.ts'

/** First version that keeps checkpoint counters in `pg_stat_checkpointer` instead of `pg_stat_bgwriter`. */
const checkpointerViewVersion = 170000
/** More slots than this are not reported; PostgreSQL's own default limit is 10. */
const slotsMax = 100

/**
 * One statement that asks everything, for PostgreSQL 12 and up and a role with no more than `pg_monitor`.
 * `pg_is_in_recovery()` is called once, so that a promotion in the middle cannot make the answer contradict
 * itself. Numbers beyond 32 bits come as text, because that is how the driver gives them anyway.
 */
export function factsSql(version: number): string {
  const checkpoints =
    version >= checkpointerViewVersion
      ? 'SELECT num_timed AS timed, num_requested AS requested FROM pg_stat_checkpointer'
      : 'SELECT checkpoints_timed AS timed, checkpoints_req AS requested FROM pg_stat_bgwriter'
  return `
WITH recovery AS MATERIALIZED (
  SELECT pg_is_in_recovery() AS in_recovery
), wal AS MATERIALIZED (
  SELECT in_recovery,
         CASE WHEN NOT in_recovery THEN pg_current_wal_lsn() END AS write_lsn,
         CASE WHEN in_recovery THEN pg_last_wal_receive_lsn() END AS receive_lsn,
         CASE WHEN in_recovery THEN pg_last_wal_replay_lsn() END AS replay_lsn
  FROM recovery
), sessions AS (
  SELECT count(*) AS used,
         count(*) FILTER (WHERE state = 'active' AND pid <> pg_backend_pid()) AS active,
         count(*) FILTER (WHERE state LIKE 'idle in transaction%') AS idle_in_transaction
  FROM pg_stat_activity WHERE backend_type = 'client backend'
), slots AS (
  SELECT json_agg(json_build_object('name', slot_name, 'active', active, 'retainedBytes', retained)) AS list
  FROM (SELECT slot_name, active,
               coalesce(greatest(coalesce(write_lsn, replay_lsn) - restart_lsn, 0), 0) AS retained
        FROM pg_replication_slots, wal ORDER BY slot_name LIMIT ${slotsMax}) AS listed
)
SELECT wal.in_recovery,
       current_setting('server_version_num') AS version,
       current_setting('max_connections') AS connections_max,
       (SELECT system_identifier::text FROM pg_control_system()) AS system_id,
       CASE WHEN NOT wal.in_recovery THEN pg_walfile_name(wal.write_lsn) END AS wal_file,
       receiver.received_tli,
       (SELECT timeline_id FROM pg_control_checkpoint()) AS checkpoint_timeline,
       wal.write_lsn::text, wal.receive_lsn::text, wal.replay_lsn::text,
       CASE WHEN NOT wal.in_recovery THEN NULL
            WHEN wal.receive_lsn <= wal.replay_lsn THEN 0
            ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) * 1000
       END::float8 AS lag_ms,
       receiver.status AS receiver_status, receiver.sender_host, receiver.sender_port,
       sessions.used, sessions.active, sessions.idle_in_transaction,
       checkpoints.timed, checkpoints.requested,
       slots.list AS slots
FROM wal CROSS JOIN sessions CROSS JOIN slots
CROSS JOIN (${checkpoints}) AS checkpoints
LEFT JOIN pg_stat_wal_receiver AS receiver ON wal.in_recovery`
}

/** The row that `factsSql` gives, as the driver hands it over: bigint and numeric as text. */
export interface FactsRow {
  in_recovery: boolean
  version: string
  connections_max: string
  system_id: string
  wal_file: string | null
  received_tli: number | null
  checkpoint_timeline: number
  write_lsn: string | null
  receive_lsn: string | null
  replay_lsn: string | null
  lag_ms: number | null
  receiver_status: string | null
  sender_host: string | null
  sender_port: number | null
  used: string
  active: string
  idle_in_transaction: string
  timed: string
  requested: string
  slots: { name: string; active: boolean; retainedBytes: number }[] | null
}

/**
 * Row to facts. `lagMs` is 0 when everything received is replayed; without a receiver (archive recovery) it is
 * the age of the last replayed commit, the only bound that is known there.
 */
export function factsFromRow(row: FactsRow): NodeFacts {
  const facts: NodeFacts = {
    role: row.in_recovery ? 'replica' : 'primary',
    systemId: row.system_id,
    timeline: timelineOf(row),
    connections: {
      max: Number(row.connections_max),
      used: Number(row.used),
      active: Number(row.active),
      idleInTransaction: Number(row.idle_in_transaction),
    },
    checkpoint: { requested: Number(row.requested), timed: Number(row.timed) },
    slots: row.slots ?? [],
    version: Number(row.version),
  }
  if (row.write_lsn !== null) facts.writeLsn = parseLsn(row.write_lsn)
  if (row.receive_lsn !== null) facts.receiveLsn = parseLsn(row.receive_lsn)
  if (row.replay_lsn !== null) facts.replayLsn = parseLsn(row.replay_lsn)
  // Clocks step: a commit stamped by a primary whose clock runs ahead is not a negative lag.
  if (row.lag_ms !== null) facts.lagMs = Math.max(0, Math.round(row.lag_ms))
  if (row.receiver_status !== null) facts.replicationState = row.receiver_status
  if (row.sender_host !== null) facts.upstream = `${row.sender_host}:${row.sender_port ?? 5432}`
  return facts
}

/**
 * A primary's timeline is in the name of the WAL file it writes: the control file still has the old one between
 * a promotion and the checkpoint that follows it. A replica's is that of its receiver, as long as it has one.
 */
function timelineOf(row: FactsRow): number {
  if (row.wal_file !== null) return Number.parseInt(row.wal_file.slice(0, 8), 16)
  return row.received_tli || row.checkpoint_timeline
}

/** `16/B374D848` as a number of bytes. Throws on anything else: a server never sends it. */
export function parseLsn(text: string): Lsn {
  const match = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/.exec(text)
  if (!match)
    throw new RangeError(`not a log sequence number: ${text.slice(0, 40)}; expected the form 16/B374D848`)
  return Number.parseInt(match[1]!, 16) * 2 ** 32 + Number.parseInt(match[2]!, 16)
}
