/** The package's own; build.ts writes it here. */
declare const CRUCIBLE_CLI_VERSION: string | undefined;

export const VERSION = typeof CRUCIBLE_CLI_VERSION === 'string' ? CRUCIBLE_CLI_VERSION : 'from source';
