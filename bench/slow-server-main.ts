import { SlowLink } from '../test/support/slow-link.ts'

/** `slow-server-main PORT MS`: tells on which port it leads to PORT, so much slower. */

const [target, delayMs] = process.argv.slice(2).map(Number)
const link = await SlowLink.to(target!)
link.delayMs = delayMs!
console.log(link.port)
process.once('SIGTERM', () => process.exit())
