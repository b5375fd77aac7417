import * as z from 'zod';
import { DEFAULTS, LIMITS, SUITE_PHASES, VERDICT_CLASSES } from '../constants.ts';
import { conditionsSchema, observedGenerationSchema } from './conditions.ts';
import { evaluationTemplateSpecSchema } from './evaluation-spec.ts';
import { argument, codePoints, count, fixed, listMap, setOf, text, timestamp, withRules } from './fields.ts';
import type { Rule } from './fields.ts';

const NAME = '^[A-Za-z_][A-Za-z0-9_]*$';
const NAME_MESSAGE =
  'must be a name of letters, digits and underscores that does not begin with a digit, at most 64 characters: it becomes an environment variable';
/** kubectl reads these as booleans where they are keys, as they are in include and exclude. */
const YAML_WORDS = ['y', 'n', 'yes', 'no', 'on', 'off', 'true', 'false'];
const WORD_MESSAGE = 'may not be a word that YAML takes for true or false (y, n, yes, no, on, off, true, false)';
const isName = (name: string): boolean => name.length <= 64 && new RegExp(NAME).test(name);
const isWord = (name: string): boolean => YAML_WORDS.includes(name.toLowerCase());
const WORDS = `[${YAML_WORDS.map((word) => `'${word}'`).join(', ')}]`;

const parameterName = (): z.ZodString =>
  withRules(text({ min: 1, max: 64, pattern: { re: NAME, message: NAME_MESSAGE } }), [
    { cel: `!(self.lowerAscii() in ${WORDS})`, message: WORD_MESSAGE, check: (name) => !isWord(name) },
  ]);

const parameterSchema = z.object({
  name: parameterName().describe('Name of the environment variable that has the value, and of $(NAME) in args.'),
  values: setOf(argument(256), LIMITS.suiteParameterValues).describe('The values, in the order of the cells.'),
});

// A map like a label selector, because that is how people know it: {MODEL: large, SEED: "2"}.
const combinationSchema = withRules(
  z
    .record(z.string(), argument(256))
    .superRefine((combination, context) => {
      const size = Object.keys(combination).length;
      if (size < 1 || size > LIMITS.suiteParameters) {
        const message = `must have 1 to ${LIMITS.suiteParameters} parameters`;
        context.addIssue({ code: 'custom', message });
      }
    })
    .meta({ minProperties: 1, maxProperties: LIMITS.suiteParameters }),
  [
    {
      cel: `self.all(k, size(k) <= 64 && k.matches(r'${NAME}'))`,
      message: `a key ${NAME_MESSAGE}`,
      check: (combination) => Object.keys(combination).every(isName),
    },
    {
      cel: `self.all(k, !(k.lowerAscii() in ${WORDS}))`,
      message: `a key ${WORD_MESSAGE}`,
      check: (combination) => !Object.keys(combination).some(isWord),
    },
  ],
);

const matrixShape = {
  parameters: listMap(parameterSchema, LIMITS.suiteParameters, 'name')
    .optional()
    .describe('Every combination of their values is a cell of the matrix.'),
  exclude: z
    .array(combinationSchema)
    .max(LIMITS.suiteMatrixEntries)
    .optional()
    .describe('Combinations that are left out: those that have all the values of an entry.'),
  include: z
    .array(combinationSchema)
    .max(LIMITS.suiteMatrixEntries)
    .optional()
    .describe(
      'After exclude: each entry is added to every cell whose values it does not change, and is a cell of its own when there is none.',
    ),
};
type Matrix = z.infer<z.ZodObject<typeof matrixShape>>;

const excludeRule: Rule<Matrix> = {
  cel: '!has(self.exclude) || self.exclude.all(e, e.all(k, has(self.parameters) && self.parameters.exists(p, p.name == k && e[k] in p.values)))',
  message: 'an entry of exclude names a parameter or a value that matrix.parameters does not have: it would exclude nothing',
  check: ({ exclude = [], parameters = [] }) =>
    exclude.every((entry) =>
      Object.entries(entry).every(([key, value]) =>
        parameters.some(({ name, values }) => name === key && values.includes(value)),
      ),
    ),
};

const labelsSchema = withRules(
  z
    .record(z.string(), text({ max: 63 }))
    .superRefine((labels, context) => {
      if (Object.keys(labels).length > 16) context.addIssue({ code: 'custom', message: 'may not be more than 16 labels' });
    })
    .meta({ maxProperties: 16 }),
  [
    {
      cel: "self.all(k, !k.startsWith('crucible.dev/'))",
      message: 'labels that begin with crucible.dev/ are given by Crucible',
      check: (labels) => !Object.keys(labels).some((key) => key.startsWith('crucible.dev/')),
    },
    {
      cel: 'self.all(k, size(k) <= 317)',
      message: 'the key of a label is at most 317 characters',
      check: (labels) => Object.keys(labels).every((key) => codePoints(key) <= 317),
    },
  ],
);

const templateSchema = z.object({
  metadata: z
    .object({ labels: labelsSchema.optional().describe('Labels of every Evaluation of the suite.') })
    .optional()
    .describe('What the Evaluations have beside their spec.'),
  spec: evaluationTemplateSpecSchema,
});

const shape = {
  template: templateSchema.describe('What runs in every cell.'),
  matrix: withRules(z.object(matrixShape), [excludeRule])
    .optional()
    .describe('Parameters, as environment variables and as $(NAME) in args. Unset: one cell without any.'),
  samples: z
    .int()
    .min(1)
    .max(LIMITS.suiteRuns)
    .optional()
    .meta({ format: 'int32' })
    .describe('Runs of every cell: a pass rate needs more than one. Default 1.'),
  parallelism: z
    .int()
    .min(1)
    .max(LIMITS.suiteParallelism)
    .optional()
    .meta({ format: 'int32' })
    .describe(`Evaluations that may be unfinished at once. Default ${DEFAULTS.suiteParallelism}. May be changed.`),
  minPassPercent: z
    .int()
    .min(0)
    .max(100)
    .optional()
    .meta({ format: 'int32' })
    .describe('Percentage of all runs that must pass for the suite to succeed. Default 100.'),
  failFast: z
    .boolean()
    .optional()
    .describe('true cancels the rest as soon as minPassPercent cannot be reached any more. Default false.'),
  cancel: z.boolean().optional().describe('true cancels every run, keeping its output. Cannot be taken back.'),
};
type Spec = z.infer<z.ZodObject<typeof shape>>;

/** Before excludes, and counting every include, so that the API server can say it too. */
function mostRuns({ matrix, samples = 1 }: Spec): number {
  const { parameters = [], include = [] } = matrix ?? {};
  const base = parameters.length === 0 ? 1 : parameters.reduce((product, { values }) => product * values.length, 1);
  return (base + include.length) * samples;
}

const product = Array.from(
  { length: LIMITS.suiteParameters },
  (_, i) => `(size(self.matrix.parameters) > ${i} ? size(self.matrix.parameters[${i}].values) : 1)`,
).join(' * ');

/** Names that are a parameter in some cell. */
const parameterNames = ({ matrix }: Spec): string[] => [
  ...(matrix?.parameters ?? []).map(({ name }) => name),
  ...(matrix?.include ?? []).flatMap((entry) => Object.keys(entry)),
];

const rules: readonly Rule<Spec>[] = [
  {
    cel: [
      `((has(self.matrix) && has(self.matrix.parameters) ? ${product} : 1)`,
      `(has(self.matrix) && has(self.matrix.include) ? size(self.matrix.include) : 0)) * (has(self.samples) ? self.samples : 1) <= ${LIMITS.suiteRuns}`,
    ].join(' + '),
    message: `a suite may have at most ${LIMITS.suiteRuns} runs: all combinations of spec.matrix.parameters (before exclude) and all of include, times spec.samples`,
    check: (spec) => mostRuns(spec) <= LIMITS.suiteRuns,
  },
  {
    cel: [
      '!has(self.matrix) || !has(self.template.spec.env)',
      '(!has(self.matrix.parameters) || self.matrix.parameters.all(p, !self.template.spec.env.exists(e, e.name == p.name))) && (!has(self.matrix.include) || self.matrix.include.all(i, !self.template.spec.env.exists(e, e.name in i)))',
    ].join(' || '),
    message: 'a parameter of spec.matrix has the name of a variable in spec.template.spec.env: choose another name',
    check: (spec) => {
      const names = parameterNames(spec);
      return !(spec.template.spec.env ?? []).some(({ name }) => names.includes(name));
    },
  },
];

export const MUTABLE_SUITE_FIELDS = ['cancel', 'parallelism'] as const;

export const IMMUTABLE_SUITE_FIELDS = Object.keys(shape).filter(
  (field) => !(MUTABLE_SUITE_FIELDS as readonly string[]).includes(field),
);

export const evaluationSuiteSpecSchema = withRules(z.object(shape), rules, fixed('EvaluationSuite', IMMUTABLE_SUITE_FIELDS)).describe(
  'What to run in every cell of a matrix. Cannot be changed, apart from cancel and parallelism.',
);

const share = (): z.ZodOptional<z.ZodNumber> => z.number().min(0).max(1).optional();

export const passRateSchema = z.object({
  passed: count().describe('Runs that passed.'),
  runs: count().describe('Runs that were counted.'),
  rate: share().describe('passed / runs, to four decimals; unset when no run is counted.'),
  low: share().describe('Lower end of the 95 % Wilson interval.'),
  high: share().describe('Upper end of the 95 % Wilson interval.'),
});

const counts = {
  passed: count().describe('Runs that met expect, or that succeeded when there is none.'),
  failed: count().describe('Runs that did not pass, for another reason than the infrastructure.'),
  infrastructureFailed: count().describe('Runs that the infrastructure broke, after their retries.'),
  cancelled: count().describe('Runs that were cancelled or deleted before they ended.'),
};

const summarySchema = z.object({
  total: count().describe('Runs of the suite: cells times samples.'),
  notStarted: count().describe('Runs that have no Evaluation yet, or never got one.'),
  running: count().describe('Evaluations that have not finished.'),
  ...counts,
  finished: count().describe('passed, failed, infrastructureFailed and cancelled together.'),
  retried: count().describe('Finished runs that took more than one attempt.'),
  passRate: text({ max: 32 }).optional().describe('passRates.all as kubectl shows it, with its interval.'),
  verdicts: listMap(
    z.object({ class: z.enum(VERDICT_CLASSES).describe('Class of a verdict.'), count: count().describe('Runs with it.') }),
    VERDICT_CLASSES.length,
    'class',
  ).describe('Finished runs by the class of their verdict.'),
  passRates: z
    .object({
      all: passRateSchema.describe('Of all runs that passed or failed, for whatever reason.'),
      withoutRetried: passRateSchema.describe('Leaving out runs that took more than one attempt.'),
      withoutInfrastructure: passRateSchema.describe('Leaving out runs that the infrastructure broke.'),
      withoutRetriedAndInfrastructure: passRateSchema.describe('Leaving out both.'),
    })
    .describe('Passed runs among the finished ones. Cancelled runs are in none of them.'),
});

const cellSchema = z.object({
  cell: z.int().min(1).max(LIMITS.suiteRuns).meta({ format: 'int32' }).describe('Number of the cell, from 1.'),
  parameters: z
    .record(z.string(), text({ max: 256 }))
    .meta({ maxProperties: 2 * LIMITS.suiteMatrixEntries * LIMITS.suiteParameters })
    .optional()
    .describe('Its parameters.'),
  ...counts,
  passRate: passRateSchema.describe('Of its runs that passed or failed, for whatever reason.'),
});

export const evaluationSuiteStatusSchema = z
  .object({
    observedGeneration: observedGenerationSchema,
    phase: z.enum(SUITE_PHASES).optional().describe('Where the suite is, for people; programs read the conditions.'),
    conditions: conditionsSchema.optional(),
    startedAt: timestamp().optional().describe('When the first Evaluation was created.'),
    finishedAt: timestamp().optional().describe('When the last one had ended.'),
    duration: text({ max: 16 }).optional().describe('From startedAt to finishedAt, for example 1m23s.'),
    summary: summarySchema.optional().describe('All runs together.'),
    cells: listMap(cellSchema, LIMITS.suiteRuns, 'cell')
      .optional()
      .describe('Cells that have finished runs, as many as fit; all of them are in the record.'),
    cellsOmitted: count().optional().describe('How many did not fit.'),
  })
  .meta({ default: { observedGeneration: -1 } })
  .describe('What has become of it. Written by the operator only.');

export type EvaluationSuiteSpec = z.infer<typeof evaluationSuiteSpecSchema>;
export type EvaluationSuiteStatus = z.infer<typeof evaluationSuiteStatusSchema>;
export type SuiteMatrix = Matrix;
export type SuiteSummary = z.infer<typeof summarySchema>;
export type SuiteCellStatus = z.infer<typeof cellSchema>;
export type PassRate = z.infer<typeof passRateSchema>;
