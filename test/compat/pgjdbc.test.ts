import { driverSuite } from './driver.ts'

driverSuite({
  name: 'pgjdbc',
  ecosystem: 'java',
  command: ['java', '-Xmx512m', '-Dfile.encoding=UTF-8', '-cp', 'classes:libraries/*', 'Main'],
})
