// The cells of a suite's matrix, as users of GitHub Actions know them. Pure, and the only place that knows the rules.

export interface MatrixInput {
  readonly parameters?: readonly { readonly name: string; readonly values: readonly string[] }[] | undefined;
  readonly exclude?: readonly Readonly<Record<string, string>>[] | undefined;
  readonly include?: readonly Readonly<Record<string, string>>[] | undefined;
}

/** The parameters of one cell: declared ones in their order, then included ones by name. */
export type Cell = readonly (readonly [name: string, value: string])[];

/**
 * Every combination of the parameters, the first varying slowest; without those that have all the values of an entry of
 * exclude. Then each entry of include is added to every combination whose declared values it does not change (values
 * that an earlier entry added it may change), or is a cell of its own when there is none. A cell that comes out twice is
 * one. Without parameters and includes: one cell without parameters.
 */
export function expandMatrix(matrix: MatrixInput = {}): Cell[] {
  const { parameters = [], exclude = [], include = [] } = matrix;
  if (parameters.length === 0 && include.length === 0) return [[]];
  const combinations = combine(parameters).filter((combination) => !exclude.some((entry) => has(combination, entry)));
  const cells = combinations.map((combination) => new Map(combination));
  const own: Map<string, string>[] = [];
  for (const entry of include) {
    const pairs = Object.entries(entry);
    const fitting = cells.filter((_, index) =>
      pairs.every(([name, value]) => (combinations[index]?.get(name) ?? value) === value),
    );
    for (const cell of fitting) for (const [name, value] of pairs) cell.set(name, value);
    if (fitting.length === 0) own.push(new Map(pairs));
  }
  const declared = parameters.map(({ name }) => name);
  return unique([...cells, ...own].map((cell) => ordered(cell, declared)));
}

function combine(parameters: NonNullable<MatrixInput['parameters']>): ReadonlyMap<string, string>[] {
  if (parameters.length === 0) return [];
  let combinations: ReadonlyMap<string, string>[] = [new Map()];
  for (const { name, values } of parameters)
    combinations = combinations.flatMap((combination) => values.map((value) => new Map([...combination, [name, value]])));
  return combinations;
}

function has(combination: ReadonlyMap<string, string>, entry: Readonly<Record<string, string>>): boolean {
  return Object.entries(entry).every(([name, value]) => combination.get(name) === value);
}

function ordered(cell: ReadonlyMap<string, string>, declared: readonly string[]): Cell {
  const added = [...cell.keys()].filter((name) => !declared.includes(name)).sort();
  return [...declared, ...added].flatMap((name) => {
    const value = cell.get(name);
    return value === undefined ? [] : [[name, value] as const];
  });
}

function unique(cells: readonly Cell[]): Cell[] {
  return [...new Map(cells.map((cell) => [JSON.stringify(cell), cell])).values()];
}

// The syntax and the escape are Kubernetes' own for args, and like there what is no variable stays as it is.
const PLACEHOLDER = /\$\$|\$\(([A-Za-z_][A-Za-z0-9_]*)\)/g;

/** An argument with `$(NAME)` replaced by the cell's value; `$$` is one `$`, so `$$(NAME)` is left as `$(NAME)`. */
export function expandArgument(argument: string, cell: Cell): string {
  const values = new Map(cell);
  return argument.replace(PLACEHOLDER, (match, name: string | undefined) =>
    name === undefined ? '$' : (values.get(name) ?? match),
  );
}
