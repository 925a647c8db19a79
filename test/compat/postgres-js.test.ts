import { driverSuite } from './driver.ts'

driverSuite({ name: 'postgres-js', ecosystem: 'node', command: ['node', 'postgres-js.mjs'] })
