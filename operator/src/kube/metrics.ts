import type { Registry } from 'prom-client';
export declare class KubeMetrics { constructor(registry: Registry); }
