import type { ClusterAccess } from './types.ts';
export interface AccessOptions { kubeconfig?: string | undefined; context?: string | undefined; }
/** In a cluster without options; else from the kubeconfig file. */
export declare function loadAccess(options?: AccessOptions): Promise<ClusterAccess>;
