import { describe, expect, it } from 'vitest';
import { readConfig } from './config.ts';

const GOOD = {
  CRUCIBLE_DATABASE_URL: 'postgresql://u:secret@db/crucible',
  CRUCIBLE_NAMESPACES: 'evals, more,evals,',
  CRUCIBLE_DATA_DIR: '/data',
};

describe('readConfig', () => {
  it('reads what is given and fills in the rest', () => {
    expect(readConfig(GOOD)).toMatchObject({
      namespaces: ['evals', 'more'],
      dataDir: '/data',
      maxFollows: 500,
      port: 8080,
      logLevel: 'info',
    });
    expect(readConfig({ ...GOOD, CRUCIBLE_NAMESPACES: '' }).namespaces).toEqual([]);
    expect(readConfig(GOOD).redisUrl).toBeUndefined();
    expect(readConfig({ ...GOOD, CRUCIBLE_REDIS_URL: '' }).redisUrl).toBeUndefined();
    expect(readConfig({ ...GOOD, CRUCIBLE_REDIS_URL: 'rediss://:p@r/0' }).redisUrl).toBe('rediss://:p@r/0');
  });

  it('names every mistake and no value', () => {
    const wrong = {
      CRUCIBLE_DATABASE_URL: 'mysql://u:secret@db',
      CRUCIBLE_REDIS_URL: 'http://u:secret@redis',
      CRUCIBLE_NAMESPACES: 'Bad_',
      CRUCIBLE_DATA_DIR: 'here',
      CRUCIBLE_MAX_FOLLOWS: '0',
    };
    const message = (() => {
      try {
        readConfig(wrong);
        return '';
      } catch (error) {
        return String(error);
      }
    })();
    for (const name of Object.keys(wrong)) expect(message).toContain(name);
    expect(message).not.toContain('secret');
  });
});
