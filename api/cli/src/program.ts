import { Command as Commander, InvalidArgumentError, Option } from 'commander';
import { downloadArtifacts, listArtifacts } from './commands/artifacts.ts';
import { bundle, verifyFile } from './commands/bundle.ts';
import { cancel } from './commands/cancel.ts';
import { completion } from './commands/completion.ts';
import { describe } from './commands/describe.ts';
import { get } from './commands/get.ts';
import { logs } from './commands/logs.ts';
import { plan } from './commands/plan.ts';
import { run } from './commands/run.ts';
import type { Command } from './command.ts';
import { VERDICT_EXIT } from './exit-codes.ts';
import { VERSION } from './version.ts';
import { PHASE_RANKS } from './watch.ts';

export type Execute = (command: Command<never>, args: readonly string[], options: object) => Promise<void>;

const count =
  (least: number) =>
  (text: string): number => {
    const value = Number(text);
    if (!/^\d{1,9}$/.test(text) || value < least)
      throw new InvalidArgumentError(`a whole number of at least ${least} is expected.`);
    return value;
  };
const several = (text: string, before: string[] | undefined): string[] => [...(before ?? []), text];
const output = (...choices: string[]) => new Option('-o, --output <format>', 'how it is printed').choices(choices);
const attempt = () =>
  new Option('--attempt <number>', 'which attempt; default: the one that counts').argParser(count(1));
const publicKey = () => new Option('--public-key <file>', 'of the installation, PEM (CRUCIBLE_PUBLIC_KEY_FILE)');
const REFERENCE = ['<evaluation>', 'its name or UID'] as const;

/** Every command with its options; `execute` is given the one that was chosen. */
export function buildProgram(execute: Execute): Commander {
  const program = new Commander('kubectl crucible')
    .description('Runs untrusted evaluation code in Crucible’s sandboxes and shows what came out of it.')
    .version(VERSION)
    .configureHelp({ showGlobalOptions: true, commandUsage: (command) => usageOf(command) })
    .showSuggestionAfterError()
    .option('--server <url>', 'Crucible’s API, not the cluster’s (CRUCIBLE_SERVER)')
    .option('--ca-file <file>', 'certificate authority of that server, PEM (CRUCIBLE_CA_FILE)')
    .option(
      '--token-file <file>',
      'bearer token of the cluster (CRUCIBLE_TOKEN, CRUCIBLE_TOKEN_FILE); default: the kubeconfig’s',
    )
    .option('--service-account <name>', 'have kubectl make a token of it (CRUCIBLE_SERVICE_ACCOUNT)')
    .option('--kubeconfig <file>', 'as kubectl’s')
    .option('--context <name>', 'context of the kubeconfig whose token and namespace are used')
    .option('-n, --namespace <name>', 'default: the context’s');
  const add = <O>(parent: Commander, name: string, what: string, command: Command<O>): Commander => {
    const made = parent
      .command(name)
      .description(what)
      .configureHelp({ showGlobalOptions: true, commandUsage: (own) => usageOf(own) });
    return made.action(async () => execute(command as Command<never>, made.args, made.opts()));
  };
  submissionOptions(add(program, 'run', 'run a file, show its output, end with the exit code of its verdict', run))
    .addOption(output('json', 'name'))
    .option('--detach', 'do not wait for its end')
    .option('-q, --quiet', 'no progress, only output');
  add(program, 'logs', 'output of a run', logs)
    .argument(...REFERENCE)
    .option('-f, --follow', 'until its end')
    .addOption(new Option('--stream <name>', 'which').choices(['stdout', 'stderr', 'both']).default('both'))
    .addOption(attempt());
  add(program, 'get', 'list evaluations, newest first', get)
    .argument('[evaluation...]', 'names or UIDs')
    .addOption(output('json', 'wide', 'name'))
    .option('-A, --all-namespaces', 'of all namespaces that you may list')
    .addOption(new Option('--status <phase>', 'only these').choices(Object.keys(PHASE_RANKS)))
    .addOption(new Option('--verdict <class>', 'only these').choices(Object.keys(VERDICT_EXIT)))
    .option('-l, --selector <labels>', 'as kubectl’s: a=b,c!=d')
    .addOption(new Option('--limit <number>', 'how many at most').argParser(count(1)).default(50));
  add(program, 'describe', 'all that is known of a run', describe)
    .argument(...REFERENCE)
    .addOption(output('json'));
  add(program, 'cancel', 'end runs and keep their output', cancel).argument('<evaluation...>', 'names or UIDs');
  const artifacts = program
    .command('artifacts')
    .description('files that a run left')
    .configureHelp({ commandUsage: (own) => usageOf(own) });
  add(artifacts, 'list', 'what there is', listArtifacts)
    .argument(...REFERENCE)
    .addOption(attempt())
    .addOption(output('json'));
  add(artifacts, 'download', 'fetch and check them; names that could do harm are translated', downloadArtifacts)
    .argument(...REFERENCE)
    .argument('[path...]', 'only these; default: all')
    .option('-d, --directory <folder>', 'where to; default: here')
    .option('--overwrite', 'replace files that exist')
    .addOption(attempt())
    .addOption(output('json'));
  add(program, 'bundle', 'download the signed evidence of a finished run, and verify it', bundle)
    .argument(...REFERENCE)
    .option('-f, --file <file>', 'where to; default: UID.tar')
    .addOption(publicKey())
    .option('--no-verify', 'only download')
    .option('--overwrite', 'replace a file that exists')
    .addOption(output('json'));
  add(program, 'verify', 'check a bundle, offline', verifyFile)
    .argument('<file>', 'the bundle')
    .addOption(publicKey())
    .addOption(output('json'));
  submissionOptions(add(program, 'plan', 'say what would happen, without doing it', plan)).addOption(output('json'));
  add(program, 'completion', 'print a script that completes commands in your shell', completion).addArgument(
    program.createArgument('<shell>', 'which').choices(['bash', 'zsh', 'fish']),
  );
  return program;
}

function submissionOptions(command: Commander): Commander {
  return command
    .argument('<file>', 'code, a manifest (.yaml, .json), or - for code on standard input')
    .argument('[args...]', 'of the code, after --')
    .option('--runtime <name>', 'an EvaluationRuntime; default: by the file’s ending')
    .option('--name <name>', 'of the evaluation; default: made from the file’s')
    .addOption(new Option('-l, --label <name=value>', 'repeatable').argParser(several))
    .addOption(new Option('--env <name=value>', 'variable of the code, repeatable').argParser(several))
    .addOption(new Option('--file <local[=path]>', 'one more file beside the code, repeatable').argParser(several))
    .option('--stdin <file>', 'text for its standard input')
    .addOption(new Option('--timeout <seconds>', 'how long it may run').argParser(count(1)))
    .option('--cpu <quantity>', 'limit')
    .option('--memory <quantity>', 'limit')
    .option('--disk <quantity>', 'size of its working folder')
    .option('--runtime-class <name>', 'isolation')
    .addOption(new Option('--artifact <glob>', 'files to keep, repeatable').argParser(several))
    .addOption(new Option('--priority <number>', 'higher goes first').argParser(count(0)))
    .addOption(new Option('--retry <times>', 'further attempts when the platform was at fault').argParser(count(0)))
    .option('--queue <name>', 'Kueue’s LocalQueue');
}

/** As it is typed, whatever the file is called that runs. */
function usageOf(command: Commander): string {
  const names: string[] = [];
  for (let each: Commander | null = command; each !== null; each = each.parent) names.unshift(each.name());
  return `${names.join(' ')} ${command.usage()}`;
}
