/**
 * Kernelspecs for what starts kernels on other machines: Enterprise Gateway's process proxies and Gateway Provisioners.
 */
import { join } from "node:path";
import { commonFields, dataFolder, type Kernelspec, packageRoot, writeKernelspec } from "./kernelspec.js";
import { type Gateway, kernelImage } from "./names.js";

export interface GatewayKernelspecOptions {
  readonly gateway: Gateway;
  /** The container's image. Default: {@link kernelImage}. */
  readonly image?: string | undefined;
  /** The gateway's script that starts a pod or a container; where its own images or packages have it unless given. */
  readonly launcher?: string | undefined;
  /** The kernel's name. */
  readonly name: string;
  /** Installs to `share/jupyter/kernels` below it; else to the user's data folder. */
  readonly prefix?: string | undefined;
}

type Place = "kubernetes" | "docker" | "distributed";

const placeNames: Record<Place, string> = {
  kubernetes: "on Kubernetes",
  docker: "on Docker",
  distributed: "on another host",
};

/** By the spelling of its metadata, a gateway names a class; the file is where its image keeps its own kernels for Python. */
const enterpriseGateway = {
  classes: {
    kubernetes: "k8s.KubernetesProcessProxy",
    docker: "docker_swarm.DockerProcessProxy",
    distributed: "distributed.DistributedProcessProxy",
  },
  launcher: (place: Place) => `/usr/local/share/jupyter/kernels/python_${place}/scripts/launch_${place}.py`,
} as const;

/** What both gateways fill in; each flag has the name of its placeholder. */
const filledIn = ["kernel-id", "port-range", "response-address", "public-key"] as const;

const placeholder = (flag: string): string => `{${flag.replaceAll("-", "_")}}`;

/**
 * Gateway Provisioners have their scripts inside of their package, which is wherever Python has it. A script runs as if it had been
 * started by itself: it looks for its template beside it.
 */
const findsLauncher = `"""Runs the script of Gateway Provisioners that starts a container for a kernel: the one that the first argument names."""
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

found = find_spec("gateway_provisioners")
if found is None:
    sys.exit(f"gateway_provisioners is not installed for {sys.executable}")
place = sys.argv.pop(1)
script = Path(found.origin).parent / "kernel-launchers" / place / "scripts" / f"launch_{place}.py"
runpy.run_path(str(script), run_name="__main__")
`;

/** The kernelspec for a gateway, and the files that belong beside it. */
export function gatewayKernelspec({
  gateway,
  image = kernelImage,
  launcher,
}: Omit<GatewayKernelspecOptions, "prefix" | "name">): {
  readonly spec: Kernelspec;
  readonly files: Readonly<Record<string, string>>;
} {
  const place = gateway.split("-").at(-1) as Place;
  const config = place === "distributed" ? {} : { image_name: image };
  const { metadata, ...fields } = commonFields;
  const base = { display_name: `TypeScript (firstframe) ${placeNames[place]}`, ...fields };
  // It runs where the kernel is to be, by this package's own path, unless a script of the gateway's makes a container first.
  const launch = [process.execPath, join(packageRoot, "dist/src/cli/main.js"), "kernel", "launch"];
  if (gateway.startsWith("enterprise-gateway-")) {
    const start =
      place === "distributed" ? launch : ["python", launcher ?? enterpriseGateway.launcher(place)];
    const class_name = `enterprise_gateway.services.processproxies.${enterpriseGateway.classes[place]}`;
    const flags = filledIn.flatMap((flag) => [`--RemoteProcessProxy.${flag}`, placeholder(flag)]);
    return {
      spec: {
        argv: [...start, ...flags],
        ...base,
        metadata: { ...metadata, process_proxy: { class_name, config } },
      },
      files: {},
    };
  }
  const own = launcher === undefined && place !== "distributed";
  const script = launcher === undefined ? ["{resource_dir}/launch.py", place] : [launcher];
  const start = place === "distributed" ? launch : ["python", ...script];
  const flags = [...filledIn, "transport-encryption"].flatMap((flag) => [`--${flag}`, placeholder(flag)]);
  const kernel_provisioner = { provisioner_name: `${place}-provisioner`, config };
  return {
    spec: { argv: [...start, ...flags], ...base, metadata: { ...metadata, kernel_provisioner } },
    files: own ? { "launch.py": findsLauncher } : {},
  };
}

/**
 * Writes the kernelspec for a gateway, replacing one of the same name as a whole.
 * @returns the folder of the kernelspec
 */
export async function installGatewayKernelspec({
  name,
  prefix,
  ...options
}: GatewayKernelspecOptions): Promise<string> {
  const { spec, files } = gatewayKernelspec(options);
  return await writeKernelspec(join(dataFolder(prefix), "kernels", name), spec, files);
}
