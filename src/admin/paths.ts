/** POST: has the data workers of a proxy replaced by new processes, one after the other. */
export const restartWorkersPath = '/api/proxy/restart-workers'
