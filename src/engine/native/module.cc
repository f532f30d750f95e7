// The addon: registers all fused operations with the libtensorflow that is loaded.

#include <node_api.h>

#include "op.h"

NAPI_MODULE_INIT() {
  firstframe::RegisterGelu();
  firstframe::RegisterSoftmax();
  firstframe::RegisterLayerNorm();
  firstframe::RegisterModulatedNorm();
  firstframe::RegisterHeadNorm();
  firstframe::RegisterSums();
  firstframe::RegisterGatedResidual();
  firstframe::RegisterGroupNorm();
  firstframe::RegisterMatMul();
  firstframe::RegisterAttention();
  firstframe::RegisterAdam();
  return exports;
}
