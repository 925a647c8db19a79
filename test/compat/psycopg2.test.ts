import { driverSuite } from './driver.ts'

driverSuite({ name: 'psycopg2', ecosystem: 'python', command: ['venv/bin/python', 'test_psycopg2.py'] })
