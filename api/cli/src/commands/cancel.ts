import { connect, type Command } from '../command.ts';
import { EXIT } from '../exit-codes.ts';
import { findId } from '../find.ts';

/** Ends runs and keeps their output. */
export const cancel: Command<object> = async (tools, references) => {
  const { client, namespace } = await connect(tools);
  for (const reference of references) {
    const { namespace: where, name } = await client.cancel(await findId(client, reference, namespace, tools.signal), {
      signal: tools.signal,
    });
    tools.stdout.line(`evaluation ${where}/${name} is being cancelled; its output is kept`);
  }
  return EXIT.succeeded;
};
