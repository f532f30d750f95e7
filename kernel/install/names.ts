/**
 * Names that the command line offers, apart from what they stand for: it reads them before it loads anything.
 */

/** The kernel's name, which notebooks carry. */
export const kernelName = "firstframe";

/** What can start kernels on other machines. */
export const GATEWAYS = [
  "enterprise-gateway-kubernetes",
  "enterprise-gateway-docker",
  "enterprise-gateway-distributed",
  "gateway-provisioners-kubernetes",
  "gateway-provisioners-docker",
  "gateway-provisioners-distributed",
] as const;

/** The image that containers are made from unless another is named: the Dockerfile's target `kernel`, as the documents call it. */
export const kernelImage = "firstframe-kernel";

export type Gateway = (typeof GATEWAYS)[number];
