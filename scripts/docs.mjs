// Writes docs/configuration.md from the built schema. Run `npm run build` first, or use `npm run docs`.
import { writeFileSync } from 'node:fs'
import { referenceMarkdown } from '../dist/src/config/reference.js'

const path = new URL('../docs/configuration.md', import.meta.url)
writeFileSync(path, referenceMarkdown())
