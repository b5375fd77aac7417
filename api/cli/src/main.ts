import { basename } from 'node:path';
import { CommanderError } from 'commander';
import { BundleError } from '@crucible/storage/verify-bundle';
import type { Command, Tools } from './command.ts';
import { complete, completionText } from './complete.ts';
import { exitCodeOfError, sentenceOf } from './errors.ts';
import { EXIT } from './exit-codes.ts';
import { Printer } from './printer.ts';
import { buildProgram } from './program.ts';
import { Session, type GlobalOptions } from './session.ts';

const COMPLETION_SECONDS = 3;

/** The first Node.js that can be told which authorities to trust. */
const NODE = [22, 19] as const;

async function main(argv: readonly string[]): Promise<number> {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major < NODE[0] || (major === NODE[0] && minor < NODE[1])) {
    process.stderr.write(`error: Node.js ${NODE.join('.')} or newer is needed; this is ${process.versions.node}\n`);
    return EXIT.usage;
  }
  const cursor = { lineStart: true };
  const stdout = new Printer(process.stdout, cursor);
  const stderr = new Printer(process.stderr, process.stdout.isTTY && process.stderr.isTTY ? cursor : undefined);
  const signal = interruptions();
  let session: Session | undefined;
  let code: number = EXIT.succeeded;
  const execute = async (command: Command<never>, args: readonly string[], options: object): Promise<void> => {
    const global = program.opts<GlobalOptions>();
    session = new Session(global, process.env, (text) => stderr.line(text));
    const tools: Tools = { session, options: global, stdout, stderr, signal, now: Date.now };
    code = await command(tools, args, options as never);
  };
  const program = buildProgram(execute);
  // Subcommands inherit neither: they are set on all of them.
  for (const each of [program, ...program.commands, ...program.commands.flatMap(({ commands }) => commands)])
    each.exitOverride();
  try {
    await program.parseAsync(argv, { from: 'user' });
    return code;
  } catch (error) {
    if (signal.aborted) return signal.reason === 'SIGTERM' ? EXIT.terminated : EXIT.interrupted;
    // Help and version are no mistakes; commander has said what else is wrong.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.succeeded : EXIT.usage;
    const sentence =
      error instanceof BundleError
        ? `the bundle is not genuine: ${error.message}`
        : sentenceOf(error, { token: session?.tokenSource ?? 'nowhere', namespace: session?.assumedNamespace });
    stderr.line(`error: ${sentence}`);
    return exitCodeOfError(error);
  }
}

/** Ctrl-C and SIGTERM end what waits; a second one ends the process at once. */
function interruptions(): AbortSignal {
  const controller = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => controller.abort(name));
  return controller.signal;
}

/** What fits behind `words`, for kubectl's completion and for our own scripts. Never an error: nobody could read it. */
async function mainComplete(words: readonly string[]): Promise<void> {
  const names = async (options: GlobalOptions): Promise<string[]> => {
    try {
      const session = new Session(options, process.env, () => undefined);
      const namespace = await session.namespace();
      const { items } = await (
        await session.client()
      ).list({ namespace, limit: 100 }, { signal: AbortSignal.timeout(COMPLETION_SECONDS * 1000) });
      return items.map(({ name, phase, verdict }) => `${name}\t${verdict?.class ?? phase}`);
    } catch {
      return [];
    }
  };
  process.stdout.write(
    completionText(
      await complete(
        buildProgram(async () => undefined),
        words,
        names,
      ),
    ),
  );
}

// `kubectl crucible run … | head`: nobody reads on. As if the signal had ended us: no verdict was seen.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) =>
    process.exit(error.code === 'EPIPE' ? EXIT.brokenPipe : EXIT.failed),
  );
}

const argv = process.argv.slice(2);
if (/^kubectl_complete-crucible/.test(basename(process.argv[1] ?? ''))) await mainComplete(argv);
else if (argv[0] === '__complete') await mainComplete(argv.slice(1));
else {
  const code = await main(argv);
  // What was written leaves first; a connection that is still open is nothing to wait for.
  for (const stream of [process.stdout, process.stderr]) await new Promise((done) => stream.write('', done));
  process.exit(code);
}
