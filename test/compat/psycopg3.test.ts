import { driverSuite } from './driver.ts'

driverSuite({ name: 'psycopg3', ecosystem: 'python', command: ['venv/bin/python', 'test_psycopg3.py'] })
