import { connect, type Command } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { findId } from '../find.ts';

/** Ends runs and keeps their output. */
export const cancel: Command<object> = async (tools, references) => {
  const { client, namespace } = await connect(tools);
  for (const reference of references) {
    const id = await findId(client, reference, namespace, tools.signal);
    const { finished, phase } = await client.status(id, { signal: tools.signal });
    if (finished) {
      tools.stdout.line(`evaluation ${reference} had already finished (${phase}): nothing to cancel`);
      continue;
    }
    const { namespace: where, name } = await client.cancel(id, { signal: tools.signal });
    tools.stdout.line(`evaluation ${where}/${name} is being cancelled; its output is kept`);
  }
  return EXIT.succeeded;
};
