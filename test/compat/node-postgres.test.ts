import { driverSuite } from './driver.ts'

driverSuite({ name: 'node-postgres', ecosystem: 'node', command: ['node', 'node-postgres.mjs'] })
