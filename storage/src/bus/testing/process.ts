// A relay to be killed for real: node process.ts <dsn of the recorder's role> <redis url>
import { connect } from '../../database.ts';
import { connectRedis } from '../../redis/connection.ts';
import { EventRelay } from '../relay.ts';

const [dsn = '', url = ''] = process.argv.slice(2);
const nothing = (): void => undefined;
const observer = { active: nothing, lag: nothing, published: nothing, deadLetters: nothing, rewritten: nothing, trouble: nothing };
new EventRelay(connect(dsn), connectRedis({ url }), observer, { batch: 20 }).start();
