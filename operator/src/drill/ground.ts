import { LABELS } from '@crucible/crds';
import { isDeleting } from '../evaluation/objects.ts';
import type { Namespace } from '../evaluation/objects.ts';

/**
 * Where canaries run when nothing says where: the first evaluation namespace in which they can. The first of all may have been
 * deleted, and without a drill nothing starts in any of the others either.
 */
export function groundOf(names: readonly string[], namespace: (name: string) => Namespace | undefined): string {
  const usable = names.find((name) => {
    const found = namespace(name);
    return found !== undefined && !isDeleting(found) && found.metadata.labels?.[LABELS.evaluations] === 'enabled';
  });
  return usable ?? names[0] ?? '';
}
