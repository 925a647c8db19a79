import { driverSuite } from './driver.ts'

driverSuite({
  name: 'pgjdbc',
  ecosystem: 'java',
  command: ['java', '-Xmx512m', '-cp', 'classes:libraries/*', 'Main'],
})
