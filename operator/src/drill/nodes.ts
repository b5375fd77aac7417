import type { KubeObject } from '../kube/index.ts';

// What of nodes and RuntimeClasses makes a drill's result stale when it changes. Pure.

export interface Node extends KubeObject {
  status?: {
    nodeInfo?: { bootID?: string; kernelVersion?: string; containerRuntimeVersion?: string; kubeletVersion?: string };
  };
}

/** A node's heartbeats change it every few seconds; only this is kept of it. */
export function slimNode(raw: KubeObject): Node {
  const { apiVersion, kind, metadata, status } = raw as Node;
  const { bootID, kernelVersion, containerRuntimeVersion, kubeletVersion } = status?.nodeInfo ?? {};
  const { name, uid, resourceVersion } = metadata;
  return {
    apiVersion,
    kind,
    metadata: { ...(name && { name }), ...(uid && { uid }), ...(resourceVersion && { resourceVersion }) },
    status: {
      nodeInfo: {
        ...(bootID && { bootID }),
        ...(kernelVersion && { kernelVersion }),
        ...(containerRuntimeVersion && { containerRuntimeVersion }),
        ...(kubeletVersion && { kubeletVersion }),
      },
    },
  };
}

/** The same while the same kernel and runtime run since the same boot: rules of the network do not outlive a boot. */
export function fingerprint({ metadata, status }: Node): string {
  const { bootID, kernelVersion, containerRuntimeVersion, kubeletVersion } = status?.nodeInfo ?? {};
  return JSON.stringify([metadata.uid, bootID, kernelVersion, containerRuntimeVersion, kubeletVersion]);
}

export function kernelsOf(nodes: readonly Node[]): string[] {
  return [...new Set(nodes.flatMap(({ status }) => status?.nodeInfo?.kernelVersion ?? []))];
}

export function handlerOf(classes: readonly KubeObject[], name: string | undefined): string | undefined {
  const found = classes.find(({ metadata }) => metadata.name === name) as { handler?: string } | undefined;
  return found?.handler;
}
