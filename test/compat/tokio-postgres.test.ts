import { driverSuite } from './driver.ts'

driverSuite({ name: 'tokio-postgres', ecosystem: 'rust', command: ['target/debug/driver'] })
