import { startTestCluster } from '../support/postgres.ts'
import { startTestHost, testConfig } from '../support/host.ts'
const cluster = await startTestCluster({ replicas: 2 })
const servers = [cluster.primary, ...cluster.replicas].map(s => ({ name: s.name, port: s.port }))
const config = await testConfig(servers, {'proxy.port': 7432, 'proxy.read_port': 7433, 'admin.port': 7434})
const host = await startTestHost(config)
console.log('ready', JSON.stringify(servers), cluster.dir)
process.on('SIGTERM', async () => { await host.stop(); await cluster.stop(); process.exit(0) })
