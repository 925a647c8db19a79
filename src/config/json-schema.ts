import { z } from 'zod'
import { fieldRegistry, sectionRegistry } from './fields.ts'
import { configSchema } from './schema.ts'

/** The configuration as JSON Schema (draft 7), for editors: completion, descriptions and checks while typing. */
export function configJsonSchema(): Record<string, unknown> {
  const schema = z.toJSONSchema(configSchema, {
    io: 'input',
    target: 'draft-7',
    reused: 'inline',
    override: ({ zodSchema, jsonSchema }) => {
      const field = fieldRegistry.get(zodSchema)
      const description = field?.description ?? sectionRegistry.get(zodSchema)?.description
      if (description !== undefined) jsonSchema.description = description
      if (field?.kind === 'duration') jsonSchema.anyOf = withPattern('^\\d+(\\.\\d+)? ?(ms|s|m|min|h|d)$')
      if (field?.kind === 'size') jsonSchema.anyOf = withPattern('^\\d+(\\.\\d+)? ?(B|kB|MB|GB|TB)$')
    },
  })
  return { ...schema, title: 'pgherd configuration' }
}

function withPattern(pattern: string): { type?: 'string'; pattern?: string; const?: 0 }[] {
  return [{ type: 'string', pattern }, { const: 0 }]
}
