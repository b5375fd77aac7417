import type { Registry } from 'prom-client';
export declare class ControllerMetrics { constructor(registry: Registry); }
