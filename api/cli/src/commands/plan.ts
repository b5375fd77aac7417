import type { Plan } from '@crucible/client';
import { connect, printJson, type Command, type OutputOption } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { buildSubmission, type SubmissionOptions } from '../submission.ts';
import { bytes, table } from '../text.ts';

/** What would happen, without doing it. Ends with 1 when it would be refused. */
export const plan: Command<SubmissionOptions & OutputOption> = async (
  tools,
  [file = '', ...args],
  { output, ...options },
) => {
  const { client, namespace } = await connect(tools);
  const place = { namespace, explicit: tools.options.namespace !== undefined };
  const planned = await client.plan(buildSubmission(file, args, options, place), { signal: tools.signal });
  if (output === 'json') printJson(tools.stdout, planned);
  else tools.stdout.line(planText(planned));
  return planned.admitted ? EXIT.succeeded : EXIT.failed;
};

function planText({ admitted, paused, reason, message, assumptions, policy, queue }: Plan): string {
  const rows =
    policy === null
      ? []
      : [
          ['runtime class', policy.runtimeClassName ?? 'the cluster’s default'],
          ['network', policy.network],
          ['service account token', policy.serviceAccountToken ? 'yes' : 'none'],
          ['user ids', `${policy.userIds.first}–${policy.userIds.last}`],
          ['time', `${policy.timeoutSeconds} s, then ${policy.graceSeconds} s to end`],
          ['memory, disk', `${bytes(policy.memoryBytes)}, ${bytes(policy.diskBytes)}`],
          ['cpu', `${policy.cpuMilli}m`],
          ['output, artifacts', `${bytes(policy.streamBytes)} a stream, ${bytes(policy.artifactBytes)}`],
        ];
  return [
    admitted ? (paused === null ? 'would be admitted' : `would be admitted, and would wait: ${paused}`) : `would be refused: ${reason ?? 'no reason'}: ${message ?? ''}`,
    ...(rows.length > 0 ? [table(rows)] : []),
    `queue: at most position ${queue.positionAtMost}${paused === null ? '' : ' when it goes on'}; ${queue.waiting} wait, ${queue.running} of ${queue.limit} run`,
    ...assumptions.map((assumption) => `assumed: ${assumption}`),
  ].join('\n');
}
