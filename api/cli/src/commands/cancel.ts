import { ProblemError } from '@crucible/client';
import { connect, type Command } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { findId } from '../find.ts';
import { visibleLine } from '../text.ts';

/** Ends runs and keeps their output. */
export const cancel: Command<object> = async (tools, references) => {
  const { client, namespace } = await connect(tools);
  for (const reference of references) {
    const id = await findId(client, reference, namespace, tools.signal);
    try {
      const { namespace: where, name } = await client.cancel(id, { signal: tools.signal });
      tools.stdout.line(`evaluation ${where}/${name} is being cancelled; its output is kept`);
    } catch (error) {
      // Nothing is left to cancel, which is what was wanted.
      if (!(error instanceof ProblemError) || error.status !== 409) throw error;
      tools.stdout.line(`evaluation ${reference}: ${visibleLine(error.problem.detail)}`);
    }
  }
  return EXIT.succeeded;
};
