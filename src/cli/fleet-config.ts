import { emptyFleet, type FleetReading, overlayFleet, ownKeys } from '../config/fleet.ts'
import type { Origins } from '../config/load.ts'
import type { Config } from '../config/schema.ts'
import type { RoutingSettings } from '../topology/types.ts'

/** The configuration of a process, and the fleet's settings in the place of what it does not say itself. */
export class FleetConfig {
  #own: Config
  #origins: Origins
  #fleet = emptyFleet
  #effective: Config

  constructor(own: Config, origins: Origins) {
    this.#own = own
    this.#origins = origins
    this.#effective = own
  }

  /** As the file, the environment and the command line say, without the fleet's settings. */
  get own(): Config {
    return this.#own
  }

  /** What counts. */
  get effective(): Config {
    return this.#effective
  }

  /** Settings of the fleet that this process decides by itself. */
  get ownSettings(): string[] {
    return ownKeys(this.#origins)
  }

  setOwn(own: Config, origins: Origins): void {
    this.#own = own
    this.#origins = origins
    this.#renew()
  }

  /** Whether something else counts now. The same object is looked at only once. */
  setFleet(fleet: FleetReading): boolean {
    if (fleet === this.#fleet) return false
    this.#fleet = fleet
    this.#renew()
    return true
  }

  /** What counts for the routing, with these settings of the fleet. */
  settings(fleet: FleetReading): RoutingSettings {
    this.setFleet(fleet)
    const { routing } = this.#effective
    return {
      replicaLagBytesMax: routing.replica_lag_max,
      readFallback: routing.read_fallback,
      drainTimeoutMs: routing.drain_timeout,
    }
  }

  #renew(): void {
    this.#effective = overlayFleet(this.#own, this.#origins, this.#fleet)
  }
}
