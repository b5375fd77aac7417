import { scoreRules, type Finding, type RuleScore } from './attack.ts';
import { CATALOGUE } from './catalogue/index.ts';

export interface ExplainedRule extends RuleScore {
  /** What the rule says; empty for a rule that this version does not attack any more. */
  readonly title: string;
  readonly attacks: readonly (Finding & { readonly title: string; readonly tries: string })[];
}

/** Findings of the record, rule by rule: as bad as the worst attack, with what each attack tried. */
export function explainFindings(findings: readonly Finding[]): ExplainedRule[] {
  return scoreRules(findings).map((score) => ({
    ...score,
    title: CATALOGUE.find(({ rule }) => rule === score.rule)?.title ?? '',
    attacks: findings.filter(({ rule }) => rule === score.rule).map((finding) => {
      const known = CATALOGUE.find(({ id }) => id === finding.attack);
      return { ...finding, title: known?.title ?? '', tries: known?.tries ?? '' };
    }),
  }));
}
