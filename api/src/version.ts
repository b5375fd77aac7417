// Of the contract: api/openapi.yaml. It moves when something in it breaks.
export const CONTRACT_VERSION = '0.1.0';
