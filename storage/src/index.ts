export * from './types.ts';
export * from './errors.ts';
export type * from './interfaces.ts';
