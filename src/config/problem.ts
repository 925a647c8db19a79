/** Something wrong with a configuration, and where. */
export interface Problem {
  /** The file as it was named, or `environment`, `command line` or `configuration`. */
  file: string
  /** 1-based; 0 when the problem is not at a place in a file. */
  line: number
  column: number
  /** Key, as `nodes[0].host`; '' for none. */
  path: string
  /** What is wrong. Never holds the value of a secret. */
  message: string
  /** What to do about it, where there is more to say. */
  hint?: string
}

/** `file:line:column: message`, as compilers write it, so that editors can jump there. */
export function formatProblem(problem: Problem): string {
  const place = problem.line > 0 ? `${problem.file}:${problem.line}:${problem.column}` : problem.file
  return `${place}: ${problem.message}`
}

/** In the order of the file; what stands in no file first. */
export function sortProblems(problems: readonly Problem[]): Problem[] {
  return [...problems].sort((a, b) => a.line - b.line || a.column - b.column)
}
