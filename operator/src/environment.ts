import * as z from 'zod';

// What the environments of the operator and the recorder have in common.

export const databaseUrl = z.string().regex(/^postgres(ql)?:\/\//, 'a postgres:// URL');
export const logLevel = z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info');
export const port = z.coerce.number().int().min(0).max(65_535).default(8080);

/** Separated by commas, each once. */
export function list(item: z.ZodString) {
  const split = (text: string): string[] => text.split(',').map((name) => name.trim());
  return z
    .string()
    .transform((text) => [...new Set(split(text).filter((name) => name !== ''))])
    .pipe(z.array(item));
}

/** Throws with every mistake in one message, without values: some of them are secret. */
export function readEnvironment<T extends z.ZodType>(
  schema: T,
  env: Readonly<Record<string, string | undefined>>,
  whose: string,
): z.output<T> {
  const parsed = schema.safeParse(env);
  if (parsed.success) return parsed.data;
  const mistakes = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
  throw new Error(`the ${whose}'s configuration is wrong: ${mistakes.join('; ')}`);
}
