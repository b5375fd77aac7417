// The command that reads the whole record and says what is damaged: after a restore, or whenever somebody doubts it.
import { checkRecord } from './check.ts';
import { connect } from './database.ts';

const url = process.env['CRUCIBLE_DATABASE_URL'] ?? '';
/** It reads all output. */
const STATEMENT_SECONDS = 3_600;

if (!/^postgres(ql)?:\/\//.test(url)) {
  console.error('check: CRUCIBLE_DATABASE_URL is required: a DSN of the owner, postgresql://…');
  process.exit(2);
}
const db = connect({ connectionString: url, applicationName: 'crucible check', statementTimeoutSeconds: STATEMENT_SECONDS });
try {
  const problems = await checkRecord(db);
  for (const { evaluationUid, problem } of problems) console.log(`${evaluationUid ?? '-'}: ${problem}`);
  console.log(problems.length === 0 ? 'check: the record is whole' : `check: ${problems.length} problems`);
  process.exitCode = problems.length === 0 ? 0 : 1;
} catch (error) {
  console.error(`check: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 2;
} finally {
  await db.close();
}
