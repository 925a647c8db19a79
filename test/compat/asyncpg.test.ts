import { driverSuite } from './driver.ts'

driverSuite({ name: 'asyncpg', ecosystem: 'python', command: ['venv/bin/python', 'test_asyncpg.py'] })
