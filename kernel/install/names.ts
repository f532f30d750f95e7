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

export type Gateway = (typeof GATEWAYS)[number];
