import { SlowLink } from '../test/support/slow-link.ts'

/** `slow-servers-main PORT:MS ...`: tells on which ports it leads to each PORT, so much slower. */

const links: SlowLink[] = []
for (const argument of process.argv.slice(2)) {
  const [target, delayMs] = argument.split(':').map(Number)
  const link = await SlowLink.to(target!)
  link.delayMs = delayMs!
  links.push(link)
}
console.log(links.map(({ port }) => port).join(' '))
process.once('SIGTERM', () => process.exit())
