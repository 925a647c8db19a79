// Writes the pages that are made from the code. Run `npm run build` first, or use `npm run docs`.
import { writeFileSync } from 'node:fs'
import { metricsMarkdown } from '../dist/src/admin/metrics-reference.js'
import { referenceMarkdown } from '../dist/src/config/reference.js'

writeFileSync(new URL('../docs/configuration.md', import.meta.url), referenceMarkdown())
writeFileSync(new URL('../docs/metrics.md', import.meta.url), await metricsMarkdown())
