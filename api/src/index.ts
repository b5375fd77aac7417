export { buildApp } from './app.ts';
export { readConfig } from './config.ts';
export type { ApiConfig } from './config.ts';
