import * as z from 'zod';
import { DEFAULTS, LIMITS, RETRY_CAUSES } from '../constants.ts';
import { parseBytes } from '../quantity.ts';
import {
  argument,
  bytes,
  cpu,
  dnsLabel,
  dnsSubdomain,
  environment,
  fixed,
  imageReference,
  listMap,
  relativePath,
  setOf,
  text,
  utf8Bytes,
  withRules,
} from './fields.ts';
import type { Rule } from './fields.ts';

const configMapRefSchema = z
  .object({
    name: dnsSubdomain().describe('Name of the ConfigMap.'),
    key: text({
      min: 1,
      max: 253,
      pattern: {
        re: '^[-._a-zA-Z0-9]+$',
        message: 'must be a key of a ConfigMap: letters, digits, hyphens, underscores and dots',
      },
    }).describe('Key in its data or binaryData.'),
  })
  .describe(
    'A key of a ConfigMap in the same namespace that carries the label crucible.dev/input: "true". It is read, and its sha256 recorded, when an attempt starts; all of them together are at most 512 KiB.',
  );

const fileShape = z.object({
  path: withRules(relativePath('data/input.json'), [
    {
      cel: "self != '.stdin' && !self.startsWith('.stdin/')",
      message: 'may not be .stdin: that is where Crucible keeps spec.stdin; choose another name',
      check: (path) => path !== '.stdin' && !path.startsWith('.stdin/'),
    },
  ]).describe('Where the file appears, relative to /crucible/code.'),
  content: text({ max: LIMITS.sourceBytes }).optional().describe('The content, as text.'),
  configMapRef: configMapRefSchema.optional(),
});

const fileSchema = withRules(fileShape, [
  {
    cel: 'has(self.content) != has(self.configMapRef)',
    message: 'set exactly one of content and configMapRef',
    check: (file) => (file.content !== undefined) !== (file.configMapRef !== undefined),
  },
]);

const filesSchema = withRules(listMap(fileSchema, 64, 'path'), [
  {
    cel: "self.all(f, !self.exists(g, g.path.startsWith(f.path + '/')))",
    message: 'a path may not be both a file and a folder: rename one of the two',
    check: (files) => files.every((file) => !files.some((other) => other.path.startsWith(`${file.path}/`))),
  },
]);

export const resourcesSchema = z.object({
  cpu: cpu()
    .optional()
    .describe(
      `CPU limit, in cores or thousandths: 1, 500m. Default ${DEFAULTS.cpu}, unless the runtime says otherwise.`,
    ),
  memory: bytes()
    .optional()
    .describe(`Memory for the code's processes. Default ${DEFAULTS.memory}, unless the runtime says otherwise.`),
  disk: bytes()
    .optional()
    .describe(
      `Size of the working folder /work, which lives in memory. Default ${DEFAULTS.disk}, unless the runtime says otherwise.`,
    ),
});

export const timeoutSeconds = (): z.ZodInt => z.int().min(1).max(LIMITS.timeoutSeconds).meta({ format: 'int32' });

const jsonExpectationSchema = withRules(
  z.object({
    path: text({
      min: 1,
      max: 256,
      pattern: {
        re: '^(\\$|\\$?(\\.?[A-Za-z0-9_-]+|\\[[0-9]+\\])(\\.[A-Za-z0-9_-]+|\\[[0-9]+\\])*)$',
        message: 'must be keys and indexes joined by dots, for example scores[0].value',
      },
    }).describe(
      'Where to look in the last line of stdout that is a JSON document, for example scores[0].value; $ is the document itself.',
    ),
    equals: text({ max: 1024 })
      .optional()
      .describe(
        'The value there must equal this JSON, for example "3", "true" or "\\"ok\\""; text that is not JSON is compared as a string.',
      ),
    min: z.number().optional().describe('The value there must be a number of at least this.'),
    max: z.number().optional().describe('The value there must be a number of at most this.'),
  }),
  [
    {
      cel: 'has(self.equals) || has(self.min) || has(self.max)',
      message: 'set equals, min or max: otherwise nothing is expected of the value',
      check: (json) => json.equals !== undefined || json.min !== undefined || json.max !== undefined,
    },
  ],
);

const stdoutExpectationSchema = withRules(
  z.object({
    equals: text({ max: 8192 }).optional().describe('stdout must be exactly this, apart from white space at its end.'),
    contains: text({ min: 1, max: 8192 }).optional().describe('stdout must contain this text.'),
    matches: withRules(text({ min: 1, max: 1024 }), [
      // Evaluating the expression is what validates it: CEL answers with RE2's own complaint and this message. RE2 is
      // not JavaScript's dialect, so there is nothing to check on our side.
      { cel: "''.matches(self) ? true : true", message: 'must be an RE2 regular expression', check: () => true },
    ])
      .optional()
      .describe('stdout must match this RE2 regular expression, anywhere in it.'),
    json: jsonExpectationSchema.optional().describe('A value in JSON that the code printed.'),
  }),
  [
    {
      cel: 'has(self.equals) || has(self.contains) || has(self.matches) || has(self.json)',
      message: 'set equals, contains, matches or json: otherwise nothing is expected of stdout',
      check: (stdout) => Object.values(stdout).some((value) => value !== undefined),
    },
  ],
);

const expectSchema = z.object({
  exitCode: z.int().min(0).max(255).optional().meta({ format: 'int32' }).describe('The exit code. Default 0.'),
  stdout: stdoutExpectationSchema.optional().describe('What stdout must be; everything set here must hold.'),
});

const causes = (): z.ZodArray<z.ZodEnum<{ Infrastructure: 'Infrastructure'; Any: 'Any' }>> =>
  setOf(z.enum(RETRY_CAUSES), RETRY_CAUSES.length);

const retrySchema = withRules(
  z.object({
    limit: z.int().min(0).max(LIMITS.retries).meta({ format: 'int32' }).describe('Further attempts after the first.'),
    on: causes()
      .optional()
      .describe('Infrastructure: only when the platform was at fault, the default. Any: every failure.'),
    // kubectl and helm read YAML 1.1, in which an unquoted `on` is the boolean true: without this field the API server
    // would drop what people write as `on: [Any]`.
    true: causes().optional().describe('Same as on: what YAML 1.1 makes of the word when it is not quoted.'),
  }),
  [
    {
      cel: '!has(self.on) || !has(self.__true__)', // how CEL spells a field that is named like a keyword
      message: 'on is given twice, once in quotes: keep one',
      check: (retry) => retry.on === undefined || retry.true === undefined,
    },
  ],
);

const shape = {
  runtime: dnsLabel()
    .optional()
    .describe('Name of an EvaluationRuntime, for example python. Either this or image and command.'),
  image: imageReference().optional().describe('Container image to use instead of a runtime; needs command.'),
  command: z
    .array(argument(4096))
    .min(1)
    .max(64)
    .optional()
    .describe('Program and first arguments, with image only. Code is at /crucible/code/main, files beside it.'),
  code: text({ min: 1, max: LIMITS.sourceBytes })
    .optional()
    .describe(
      "Source text of the entry file, which the runtime's command is given. code, files and stdin together are at most 128 KiB.",
    ),
  files: filesSchema.optional().describe('More files beside the entry file, read-only; from ConfigMaps where content would be too large.'),
  args: z.array(argument(4096)).max(64).optional().describe('Arguments after the entry file.'),
  env: environment().optional().describe('Environment variables of the code.'),
  stdin: text({ max: LIMITS.sourceBytes }).optional().describe('Text on standard input. Default: none.'),
  resources: resourcesSchema.optional().describe("Limits; at most the runtime's maximum."),
  timeoutSeconds: timeoutSeconds()
    .optional()
    .describe(
      `Seconds the code may run before SIGTERM, then SIGKILL. Default ${DEFAULTS.timeoutSeconds}, unless the runtime says otherwise.`,
    ),
  isolation: z
    .object({
      runtimeClassName: dnsSubdomain()
        .optional()
        .describe('RuntimeClass of the sandbox, for example gvisor. Default from the runtime or the installation.'),
    })
    .optional()
    .describe('How strongly the sandbox is separated from the node. Never falls back to something weaker.'),
  output: z
    .object({
      maxBytes: bytes()
        .optional()
        .describe('Cap of stdout and of stderr, each. Default 1Mi. The rest is counted, not kept.'),
    })
    .optional()
    .describe('What is kept of the output streams.'),
  artifacts: z
    .object({
      paths: setOf(relativePath('out/**'), 64).describe(
        'Glob patterns of files to keep, relative to /work: *, **, ? and [abc].',
      ),
      maxBytes: bytes().optional().describe('Cap of all artifacts together. Default 4Mi.'),
    })
    .optional()
    .describe('Files to keep after the code has ended.'),
  retry: retrySchema.optional().describe('New attempts after a failure. Every attempt and its output are kept.'),
  priority: z
    .int()
    .min(-1_000_000)
    .max(1_000_000)
    .optional()
    .meta({ format: 'int32' })
    .describe('Order within the namespace while queued; higher first. Default 0. May be changed.'),
  queue: dnsLabel().optional().describe('Kueue LocalQueue to admit the Job through. Unset: the built-in queue.'),
  expect: expectSchema
    .optional()
    .describe('When the run counts as passed: everything set here must hold. Sets condition Passed.'),
  ttlSecondsAfterFinished: z
    .int()
    .min(0)
    .max(31_536_000)
    .optional()
    .meta({ format: 'int32' })
    .describe('Deletes the resource this long after it finished; the record stays. Default: never. May be changed.'),
  cancel: z.boolean().optional().describe('true ends the run and keeps its output. Cannot be taken back.'),
};

type Spec = z.infer<z.ZodObject<typeof shape>>;

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** Bytes of code, files and stdin. */
export function sourceBytes(spec: Pick<Spec, 'code' | 'files' | 'stdin'>): number {
  return (
    utf8Bytes(spec.code ?? '') +
    utf8Bytes(spec.stdin ?? '') +
    sum((spec.files ?? []).map((file) => utf8Bytes(file.content ?? '')))
  );
}

function argumentBytes(spec: Spec): number {
  const strings = [
    ...(spec.command ?? []),
    ...(spec.args ?? []),
    ...(spec.env ?? []).flatMap(({ name, value }) => [name, value]),
  ];
  return sum(strings.map(utf8Bytes));
}

/** Invalid quantities count as 0 here: they are reported at their own field. */
function emittedBytes(spec: Spec): number {
  const size = (quantity: string | number): number => {
    try {
      return parseBytes(quantity);
    } catch {
      return 0;
    }
  };
  const artifacts = spec.artifacts === undefined ? 0 : size(spec.artifacts.maxBytes ?? DEFAULTS.artifactBytes);
  return 2 * size(spec.output?.maxBytes ?? DEFAULTS.streamBytes) + (artifacts * 4) / 3;
}

const size = (field: string): string => `(has(${field}) ? size(bytes(${field})) : 0)`;
const quantity = (parent: string, field: string, fallback: number): string =>
  `(has(${parent}) && has(${parent}.${field}) ? quantity(string(${parent}.${field})).asInteger() : ${fallback})`;

const rules: readonly Rule<Spec>[] = [
  {
    cel: 'has(self.runtime) != has(self.image)',
    message: 'set exactly one of spec.runtime (an EvaluationRuntime) and spec.image (with spec.command)',
    check: (spec) => (spec.runtime !== undefined) !== (spec.image !== undefined),
  },
  {
    cel: 'has(self.command) || !has(self.image)',
    message: 'spec.image needs spec.command: the program to start in it',
    check: (spec) => spec.command !== undefined || spec.image === undefined,
  },
  {
    cel: 'has(self.image) || !has(self.command)',
    message: 'spec.command goes with spec.image only: a runtime brings its own command; use spec.args for arguments',
    check: (spec) => spec.image !== undefined || spec.command === undefined,
  },
  {
    cel: 'has(self.code) || !has(self.runtime)',
    message: 'spec.runtime needs spec.code: the source text to run',
    check: (spec) => spec.code !== undefined || spec.runtime === undefined,
  },
  {
    cel: `${size('self.code')} + ${size('self.stdin')} + (has(self.files) ? self.files.map(f, has(f.content) ? size(bytes(f.content)) : 0).sum() : 0) <= ${LIMITS.sourceBytes}`,
    message: 'spec.code, spec.files and spec.stdin together may be at most 128 KiB: put more into a ConfigMap (files[].configMapRef) or an image',
    check: (spec) => sourceBytes(spec) <= LIMITS.sourceBytes,
  },
  {
    cel: [
      ...['command', 'args'].map((list) => `(has(self.${list}) ? self.${list}.map(a, size(bytes(a))).sum() : 0)`),
      `(has(self.env) ? self.env.map(e, size(bytes(e.name)) + size(bytes(e.value))).sum() : 0) <= ${LIMITS.argumentBytes}`,
    ].join(' + '),
    message:
      'spec.command, spec.args and spec.env together may be at most 64 KiB: pass more through spec.files or spec.stdin',
    check: (spec) => argumentBytes(spec) <= LIMITS.argumentBytes,
  },
  {
    // Times three, so that base64's four thirds stay whole numbers.
    cel: `${quantity('self.output', 'maxBytes', DEFAULTS.streamBytes)} * 6 + (has(self.artifacts) ? ${quantity('self.artifacts', 'maxBytes', DEFAULTS.artifactBytes)} * 4 : 0) <= ${LIMITS.emittedBytes * 3}`,
    message:
      'a run may emit at most 8Mi: lower spec.output.maxBytes (counted twice, for stdout and stderr) or spec.artifacts.maxBytes (counted four thirds, as base64)',
    check: (spec) => emittedBytes(spec) <= LIMITS.emittedBytes,
  },
];

export const MUTABLE_SPEC_FIELDS = ['cancel', 'priority', 'ttlSecondsAfterFinished'] as const;

export const IMMUTABLE_SPEC_FIELDS = Object.keys(shape).filter(
  (field) => !(MUTABLE_SPEC_FIELDS as readonly string[]).includes(field),
);

export const evaluationSpecSchema = withRules(z.object(shape), rules, fixed('Evaluation', IMMUTABLE_SPEC_FIELDS)).describe(
  'What to run. Cannot be changed, apart from cancel, priority and ttlSecondsAfterFinished.',
);

/** What a suite makes its Evaluations from: the same rules, and no cancel, which is the suite's own. */
export const evaluationTemplateSpecSchema = withRules(z.object(shape).omit({ cancel: true }), rules).describe(
  'spec of every Evaluation of the suite; the same fields, without cancel.',
);

export type EvaluationSpec = z.infer<typeof evaluationSpecSchema>;
export type Resources = z.infer<typeof resourcesSchema>;
export type Expectation = z.infer<typeof expectSchema>;
