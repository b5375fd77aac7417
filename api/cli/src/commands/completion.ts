import type { Command } from '../command.ts';
import { EXIT } from '../exit-codes.ts';

// `kubectl crucible …` is completed by kubectl's own script, which asks kubectl_complete-crucible: it comes with this
// package. These scripts are for the program called by its own name, and ask it in the same way.

const BASH = `# kubectl-crucible: source <(kubectl crucible completion bash)
_kubectl_crucible() {
  local line
  COMPREPLY=()
  while IFS= read -r line; do
    case $line in
    :0) compopt -o default ;;
    :*) ;;
    *) COMPREPLY+=("\${line%%$'\\t'*}") ;;
    esac
  done < <(kubectl-crucible __complete "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _kubectl_crucible kubectl-crucible
`;

const ZSH = `#compdef kubectl-crucible
# kubectl-crucible: source <(kubectl crucible completion zsh)
_kubectl_crucible() {
  local -a candidates
  local line files=
  while IFS= read -r line; do
    case $line in
    :0) files=yes ;;
    :*) ;;
    *) candidates+=("\${\${line//:/\\\\:}/$'\\t'/:}") ;;
    esac
  done < <(kubectl-crucible __complete "\${(@)words[2,CURRENT]}" 2>/dev/null)
  if [[ -n $files ]]; then _files; else _describe 'kubectl-crucible' candidates; fi
}
compdef _kubectl_crucible kubectl-crucible
`;

const FISH = `# kubectl-crucible: kubectl crucible completion fish | source
function __kubectl_crucible
  set -l words (commandline -opc) (commandline -ct)
  set -l lines (kubectl-crucible __complete $words[2..-1] 2>/dev/null)
  if test "$lines[-1]" = ':0'
    __fish_complete_path (commandline -ct)
  else if test (count $lines) -gt 1
    printf '%s\\n' $lines[1..-2]
  end
end
complete -c kubectl-crucible -f -a '(__kubectl_crucible)'
`;

const SCRIPTS: Readonly<Record<string, string>> = { bash: BASH, zsh: ZSH, fish: FISH };

export const completion: Command<object> = async ({ stdout }, [shell = '']) => {
  await stdout.bytes(Buffer.from(SCRIPTS[shell] ?? ''));
  return EXIT.succeeded;
};
