// Rotary position embedding of interleaved pairs, with the rotation's sign in the sines; and its gradient.

#include "op.h"

namespace firstframe {
namespace {

VECTORISED void Forward(const float* x, const float* cos, const float* sin, float* y, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; i += 2) {
    const float a = x[i], b = x[i + 1];
    y[i] = a * cos[i] + b * sin[i];
    y[i + 1] = b * cos[i + 1] + a * sin[i + 1];
  }
}

VECTORISED void Backward(const float* dy, const float* cos, const float* sin, float* dx, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; i += 2) {
    const float a = dy[i], b = dy[i + 1];
    dx[i] = a * cos[i] + b * sin[i + 1];
    dx[i + 1] = b * cos[i + 1] + a * sin[i];
  }
}

template <void (*Row)(const float*, const float*, const float*, float*, int64_t)>
void Turn(Call& call, const Attributes&) {
  const View x = call.Input(0), cos = call.Input(1), sin = call.Input(2);
  if (!call.ok()) return;
  const View y = call.Output(0, x.shape);
  if (!call.ok()) return;
  const int64_t n = x.width(), sequence = cos.rows();
  ParallelFor(x.rows(), 1 + (1 << 14) / n, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const int64_t token = row % sequence * n;
      Row(x.data + row * n, cos.data + token, sin.data + token, y.data + row * n, n);
    }
  });
}

void ForwardRow(const float* x, const float* cos, const float* sin, float* y, int64_t n) { Forward(x, cos, sin, y, n); }
void BackwardRow(const float* dy, const float* cos, const float* sin, float* dx, int64_t n) { Backward(dy, cos, sin, dx, n); }

}  // namespace

void RegisterRotary() {
  Register("FirstframeRotary", {"x: float", "cos: float", "sin: float"}, {"y: float"}, {}, Turn<ForwardRow>);
  Register("FirstframeRotaryGrad", {"dy: float", "cos: float", "sin: float"}, {"dx: float"}, {}, Turn<BackwardRow>);
}

}  // namespace firstframe
