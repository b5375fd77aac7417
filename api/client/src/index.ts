export * from './client.ts';
export type { components, operations, paths } from './contract.ts';
export { ProblemError, UnreachableError, type ProblemDocument } from './errors.ts';
export { DEFAULT_PATIENCE, pause, type Patience } from './patience.ts';
export { linked } from './signals.ts';
export type { TransportOptions, Waiting } from './transport.ts';
