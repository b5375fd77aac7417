import type { Command as Commander, Option } from 'commander';
import { visibleLine } from './text.ts';

// The protocol of kubectl's completion (cobra's): candidates with their descriptions, a line each, then `:` and a number.

/** ShellCompDirectiveNoFileComp: nothing else fits. */
const ONLY_THESE = 4;
/** ShellCompDirectiveDefault: the shell completes file names. */
const FILES = 0;

export interface Completion {
  readonly candidates: readonly string[];
  readonly directive: number;
}

/** `words` is what was typed, the last one possibly not to its end. `names` gives evaluations. */
export async function complete(
  program: Commander,
  words: readonly string[],
  names: (options: object) => Promise<readonly string[]>,
): Promise<Completion> {
  const current = words.at(-1) ?? '';
  const { command, positionals, expecting, options } = walk(program, words.slice(0, -1));
  if (expecting !== undefined)
    return {
      candidates: startingWith(current, expecting.argChoices ?? []),
      directive: takesFile(expecting) ? FILES : ONLY_THESE,
    };
  if (current.startsWith('-')) {
    const known = [...command.options, ...(command.parent === null ? [] : program.options)];
    return {
      candidates: startingWith(
        current,
        known.map((option) => `${option.long ?? option.short}\t${option.description}`),
      ),
      directive: ONLY_THESE,
    };
  }
  if (command.commands.length > 0)
    return {
      candidates: startingWith(
        current,
        command.commands.map((each) => `${each.name()}\t${each.description()}`),
      ),
      directive: ONLY_THESE,
    };
  const last = command.registeredArguments.at(-1);
  const argument = command.registeredArguments[positionals] ?? (last?.variadic ? last : undefined);
  if (argument === undefined) return { candidates: [], directive: ONLY_THESE };
  if (argument.argChoices !== undefined)
    return { candidates: startingWith(current, argument.argChoices), directive: ONLY_THESE };
  if (argument.name() !== 'evaluation')
    return { candidates: [], directive: argument.name() === 'file' ? FILES : ONLY_THESE };
  return { candidates: startingWith(current, await names(options)), directive: ONLY_THESE };
}

interface Walk {
  readonly command: Commander;
  readonly positionals: number;
  /** The option whose value is being typed. */
  readonly expecting: Option | undefined;
  readonly options: Record<string, string>;
}

function walk(program: Commander, words: readonly string[]): Walk {
  let command = program;
  let positionals = 0;
  let expecting: Option | undefined;
  const options: Record<string, string> = {};
  for (const word of words) {
    if (expecting !== undefined) {
      options[expecting.attributeName()] = word;
      expecting = undefined;
    } else if (word.startsWith('-')) {
      const [name, value] = word.split(/=(.*)/s);
      const option = [...command.options, ...program.options].find(
        ({ long, short }) => name === long || name === short,
      );
      const takesValue = option !== undefined && (option.required || option.optional);
      if (takesValue && value !== undefined) options[option.attributeName()] = value;
      else if (takesValue) expecting = option;
    } else {
      const found = command.commands.find((each) => each.name() === word);
      if (found === undefined) positionals += 1;
      else command = found;
    }
  }
  return { command, positionals, expecting, options };
}

const takesFile = ({ flags }: Option): boolean => /<(file|folder|local)/.test(flags);

const startingWith = (prefix: string, candidates: readonly string[]): string[] =>
  candidates
    .filter((candidate) => candidate.startsWith(prefix))
    .map((candidate) => candidate.split('\t').map(visibleLine).join('\t'));

export const completionText = ({ candidates, directive }: Completion): string =>
  [...candidates, `:${directive}`, ''].join('\n');
