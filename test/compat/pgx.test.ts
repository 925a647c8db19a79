import { driverSuite } from './driver.ts'

driverSuite({ name: 'pgx', ecosystem: 'go', command: ['./driver'] })
