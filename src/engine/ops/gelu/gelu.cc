// GELU by its tanh approximation, and its gradient: x s with s = sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)).

#include "op.h"

namespace firstframe {
namespace {

constexpr float kC1 = 2 * 0.7978845608f;
constexpr float kC3 = 0.044715f * kC1;
constexpr int64_t kGrain = 1 << 14;

VECTORISED void Forward(const float* x, float* y, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) y[i] = x[i] * Sigmoid(x[i] * (kC1 + kC3 * x[i] * x[i]));
}

VECTORISED void Backward(const float* x, const float* dy, float* dx, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    const float squared = x[i] * x[i];
    const float s = Sigmoid(x[i] * (kC1 + kC3 * squared));
    dx[i] = dy[i] * s * (1.0f + x[i] * (kC1 + 3 * kC3 * squared) * (1.0f - s));
  }
}

const Implementation kImplementations[] = {
    {"FirstframeGeluTanh",
     [](Call& call, const Attributes&) {
       const View x = call.Input(0);
       if (!call.ok()) return;
       const View y = call.Output(0, x.shape);
       if (!call.ok()) return;
       ParallelFor(x.size(), kGrain, [&](int64_t begin, int64_t end) { Forward(x.data + begin, y.data + begin, end - begin); });
     }},
    {"FirstframeGeluTanhGrad",
     [](Call& call, const Attributes&) {
       const View x = call.Input(0), dy = call.Input(1);
       if (!call.ok()) return;
       const View dx = call.Output(0, x.shape);
       if (!call.ok()) return;
       ParallelFor(x.size(), kGrain,
                   [&](int64_t begin, int64_t end) { Backward(x.data + begin, dy.data + begin, dx.data + begin, end - begin); });
     }},
};

}  // namespace
}  // namespace firstframe
