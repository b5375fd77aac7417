import type { Attack, Finding } from './attack.ts';
import { CATALOGUE } from './catalogue/index.ts';

/** What is known of one RuntimeClass: the newest finding of each attack that shows anything. */
export class Knowledge {
  readonly #findings = new Map<string, Finding>();
  #recalled = false;

  /** Of a runtime that has just taken another one's name: what the record has is the other's. */
  static ofNothing(): Knowledge {
    const knowledge = new Knowledge();
    knowledge.#recalled = true;
    return knowledge;
  }

  /** Once: what an operator before this one found broken stays so until it is shown to hold. */
  async recall(broken: () => Promise<readonly Finding[]>): Promise<void> {
    if (this.#recalled) return;
    for (const finding of await broken()) {
      const id = standIn(finding);
      if (id !== undefined && !this.#findings.has(id)) this.#findings.set(id, { ...finding, attack: id });
    }
    this.#recalled = true;
  }

  learn(findings: readonly Finding[]): void {
    for (const finding of findings) {
      // What was broken stays so until it is shown to hold: an attack that did not come to its end shows nothing.
      const known = this.#findings.get(finding.attack)?.outcome;
      if (known !== 'broken' || finding.outcome !== 'open') this.#findings.set(finding.attack, finding);
    }
  }

  findings(): Finding[] {
    return [...this.#findings.values()];
  }

  /** Attacks that are to be repeated beside these, because they found something. */
  brokenBeyond(attacks: readonly Attack[]): Attack[] {
    return CATALOGUE.filter(
      (attack) => !attacks.includes(attack) && this.#findings.get(attack.id)?.outcome === 'broken',
    );
  }
}

/** An attack that this version does not have any more is stood in for by another one on the same rule. */
function standIn({ attack, rule }: Finding): string | undefined {
  return (CATALOGUE.find(({ id }) => id === attack) ?? CATALOGUE.find((other) => other.rule === rule))?.id;
}
