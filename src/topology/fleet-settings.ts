import { formatDuration, formatSize } from '../config/units.ts'
import type { FleetSettings } from './types.ts'

/** What the fleet's settings say, by key of the configuration, each as it would stand in a file. */
export function fleetValues(settings: FleetSettings | undefined): Record<string, unknown> {
  if (!settings) return {}
  const { replicaLagBytesMax: lag, readFallback: fallback, drainTimeoutMs: drain, values } = settings
  return {
    ...(lag !== undefined && { 'routing.replica_lag_max': formatSize(Math.round(lag)) }),
    ...(fallback !== undefined && { 'routing.read_fallback': fallback }),
    ...(drain !== undefined && { 'routing.drain_timeout': formatDuration(Math.round(drain)) }),
    ...values,
  }
}

/** Settings that say just these values; what another version has put beside them stays. */
export function withFleetValues(
  settings: FleetSettings | undefined,
  values: Record<string, unknown>,
): FleetSettings {
  const {
    replicaLagBytesMax: _lag,
    readFallback: _fallback,
    drainTimeoutMs: _drain,
    ...rest
  } = settings ?? {}
  return { ...rest, v: 1, values }
}
