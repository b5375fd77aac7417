import * as z from 'zod';
import { ATTRIBUTIONS, CONFIDENCES, LIMITS, PHASES, VERDICT_CLASSES } from '../constants.ts';
import { conditionsSchema, observedGenerationSchema } from './conditions.ts';
import { count, listMap, text, timestamp } from './fields.ts';

const judgement = {
  class: z.enum(VERDICT_CLASSES).describe('What happened.'),
  attributableTo: z.enum(ATTRIBUTIONS).optional().describe('Whose doing it was. Unset when the run succeeded.'),
  confidence: z
    .enum(CONFIDENCES)
    .optional()
    .describe('Confirmed by Kubernetes itself, or Probable: concluded from what the sandbox reported.'),
};

const evidenceSchema = z.object({
  source: text({ min: 1, max: 64 }).describe('Who said it, for example Pod/status, Node or Launcher.'),
  detail: text({ max: 256 }).describe('What was said.'),
});

export const verdictSchema = z.object({
  ...judgement,
  message: text({ max: LIMITS.messageCharacters }).describe('One sentence for people.'),
  evidence: z.array(evidenceSchema).max(8).optional().describe('What the verdict rests on.'),
});

/** The evidence of earlier attempts is in the record; here it would outgrow the status. */
const attemptVerdictSchema = z.object({
  ...judgement,
  message: text({ max: LIMITS.attemptMessageCharacters }).optional().describe('One sentence for people.'),
});

const exitCode = z.int32().meta({ format: 'int32' });

export const attemptSchema = z.object({
  number: z
    .int()
    .min(1)
    .max(LIMITS.retries + 1)
    .meta({ format: 'int32' })
    .describe('1 for the first attempt.'),
  jobName: text({ max: 63 }).optional().describe('The Job of this attempt.'),
  podName: text({ max: 253 }).optional().describe('Its pod.'),
  node: text({ max: 253 }).optional().describe('The node it ran on.'),
  startedAt: timestamp().optional().describe('When the code started, by the kubelet.'),
  finishedAt: timestamp().optional().describe('When the code ended, by the kubelet.'),
  exitCode: exitCode.optional().describe('Exit code, when the code exited.'),
  signal: text({ max: 32 }).optional().describe('Signal that ended the code, for example SIGKILL.'),
  verdict: attemptVerdictSchema.optional().describe('How this attempt ended.'),
});

const statusShape = {
  observedGeneration: observedGenerationSchema,
  phase: z.enum(PHASES).optional().describe('Where the run is, for people; programs read the conditions.'),
  conditions: conditionsSchema.optional(),
  queue: z
    .object({
      reason: text({ max: 64 }).describe('What the run waits for, in one word for programs, for example NamespaceLimit.'),
      message: text({ max: LIMITS.queueMessageCharacters }).optional().describe('The same in one sentence for people.'),
    })
    .optional()
    .describe('Set while the run waits to be started. Its position is given by the API.'),
  attempts: listMap(attemptSchema, LIMITS.retries + 1, 'number')
    .optional()
    .describe('Every attempt, in order.'),
  startedAt: timestamp().optional().describe('When the first attempt started.'),
  finishedAt: timestamp().optional().describe('When the last attempt ended.'),
  durationSeconds: count().optional().describe('Whole seconds from startedAt to finishedAt.'),
  duration: text({ max: 16 }).optional().describe('durationSeconds as kubectl shows it, for example 1m23s.'),
  exitCode: exitCode.optional().describe('Exit code of the accepted attempt.'),
  verdict: verdictSchema.optional().describe('How the run ended, whose doing it was, and the evidence.'),
  output: z
    .object({
      stdoutBytes: count().optional().describe('Bytes that the code wrote to stdout.'),
      stderrBytes: count().optional().describe('Bytes that the code wrote to stderr.'),
      truncated: z.boolean().optional().describe('Whether a cap cut something off.'),
      complete: z.boolean().optional().describe('Whether everything below the caps was stored.'),
      tail: text({ max: LIMITS.tailCharacters }).optional().describe('The end of stdout, or of stderr when stdout is empty; at most 2 KiB.'),
      stderrTail: text({ max: LIMITS.stderrTailCharacters })
        .optional()
        .describe('The end of stderr, at most 1 KiB, when tail is that of stdout.'),
    })
    .optional()
    .describe('Counts and the end of the output; all of it is in the record.'),
  artifacts: z
    .object({
      count: count().optional().describe('Files stored.'),
      bytes: count().optional().describe('Their size together.'),
      complete: z.boolean().optional().describe('Whether every matching file was stored whole.'),
    })
    .optional()
    .describe('What was kept of spec.artifacts.'),
  receipt: z
    .object({
      digest: text({ max: 80 }).describe('sha256 of the receipt as canonical JSON; the receipt is in the record.'),
      measuredAt: timestamp().describe('When the containment was measured, by the sandbox’s own clock.'),
      runtimeClass: text({ max: 253 }).optional().describe('RuntimeClass of the sandbox; unset for the default one.'),
      acceptedRisks: z
        .array(
          z.object({
            rules: z.array(z.int().min(1).max(99).meta({ format: 'int32' })).max(64).describe('Rules of the sandbox contract.'),
            reason: text({ max: 256 }).describe('Why the installation accepts it.'),
          }),
        )
        .max(16)
        .optional()
        .describe('Weaknesses of the sandbox that the installation had accepted by name when the run started.'),
    })
    .optional()
    .describe('What was measured inside the sandbox before the code ran, beside what Kubernetes says of the pod. Whether the two agree is the condition Contained.'),
};

export const evaluationStatusSchema = z
  .object(statusShape)
  .meta({ default: { observedGeneration: -1 } })
  .describe('What has become of it. Written by the operator only.');

export type EvaluationStatus = z.infer<typeof evaluationStatusSchema>;
export type Verdict = z.infer<typeof verdictSchema>;
export type Attempt = z.infer<typeof attemptSchema>;
