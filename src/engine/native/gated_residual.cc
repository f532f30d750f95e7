// x + gate * branch, with one gate a sample and stretch of the sequence.

#include "stretches.h"

namespace firstframe {
namespace {

VECTORISED void Forward(const float* x, const float* branch, const float* gate, float* y, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) y[i] = x[i] + branch[i] * gate[i];
}

}  // namespace

void RegisterGatedResidual() {
  Register("FirstframeGatedResidual", {"x: float", "branch: float", "gate: float"}, {"y: float"}, {"lengths: list(int)"},
           [](Call& call, const Attributes& attributes) {
             const View x = call.Input(0), branch = call.Input(1), gate = call.Input(2);
             if (!call.ok()) return;
             const View y = call.Output(0, x.shape);
             if (!call.ok()) return;
             const Stretches stretches(attributes.lengths, gate);
             const int64_t n = x.width();
             ParallelFor(x.rows(), 1 + (1 << 14) / n, [&](int64_t begin, int64_t end) {
               for (int64_t row = begin; row < end; row++) {
                 const int64_t at = row * n;
                 Forward(x.data + at, branch.data + at, gate.data + stretches.Row(row) * n, y.data + at, n);
               }
             });
           });
}

}  // namespace firstframe
