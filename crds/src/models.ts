import { Model, createTypeMetaGuard } from '@kubernetes-models/base';
import type { ModelData } from '@kubernetes-models/base';
import { API_VERSION } from './constants.ts';
import { parseEvaluation, parseEvaluationRuntime, parseEvaluationSuite } from './resources.ts';
import type { Evaluation, EvaluationRuntime, EvaluationSuite } from './resources.ts';

// Classes for those who build resources in TypeScript: `new EvaluationModel({ metadata, spec }).validate()`.
// The interfaces merge the resource's fields into the class, which @kubernetes-models/base assigns in its constructor;
// the fields themselves are `declare`d nowhere else, so that no initialiser runs after it.

const EVALUATION = { apiVersion: API_VERSION, kind: 'Evaluation' } as const;
const EVALUATION_SUITE = { apiVersion: API_VERSION, kind: 'EvaluationSuite' } as const;
const EVALUATION_RUNTIME = { apiVersion: API_VERSION, kind: 'EvaluationRuntime' } as const;

export interface EvaluationModel extends Evaluation {}
export class EvaluationModel extends Model<Evaluation> {
  static readonly is = createTypeMetaGuard<Evaluation>(EVALUATION);

  constructor(data?: ModelData<Evaluation>) {
    super({ ...EVALUATION, ...data } as ModelData<Evaluation>);
  }

  /** Throws InvalidResourceError with every problem and its path. */
  override validate(): void {
    parseEvaluation(this.toJSON());
  }
}

export interface EvaluationRuntimeModel extends EvaluationRuntime {}
export class EvaluationRuntimeModel extends Model<EvaluationRuntime> {
  static readonly is = createTypeMetaGuard<EvaluationRuntime>(EVALUATION_RUNTIME);

  constructor(data?: ModelData<EvaluationRuntime>) {
    super({ ...EVALUATION_RUNTIME, ...data } as ModelData<EvaluationRuntime>);
  }

  /** Throws InvalidResourceError with every problem and its path. */
  override validate(): void {
    parseEvaluationRuntime(this.toJSON());
  }
}

export interface EvaluationSuiteModel extends EvaluationSuite {}
export class EvaluationSuiteModel extends Model<EvaluationSuite> {
  static readonly is = createTypeMetaGuard<EvaluationSuite>(EVALUATION_SUITE);

  constructor(data?: ModelData<EvaluationSuite>) {
    super({ ...EVALUATION_SUITE, ...data } as ModelData<EvaluationSuite>);
  }

  /** Throws InvalidResourceError with every problem and its path. */
  override validate(): void {
    parseEvaluationSuite(this.toJSON());
  }
}
