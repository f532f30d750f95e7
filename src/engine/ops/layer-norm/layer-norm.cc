// Layer norm over the last axis, then a scale and a shift that may differ by sample and segment; and its gradient by x.

#include "layer-norm.h"
#include "segments.h"

namespace firstframe {
namespace {

VECTORISED void Forward(const float* x, const float* scale, const float* shift, float* y, int64_t n, float eps) {
  const Moments m = MomentsOf(x, n, eps);
#pragma omp simd
  for (int64_t i = 0; i < n; i++) y[i] = (x[i] - m.mean) * m.rstd * scale[i] + shift[i];
}

VECTORISED void Backward(const float* x, const float* scale, const float* dy, float* dx, int64_t n, float eps) {
  const Moments m = MomentsOf(x, n, eps);
  float mean = 0, along = 0;
#pragma omp simd reduction(+ : mean, along)
  for (int64_t i = 0; i < n; i++) {
    const float dn = dy[i] * scale[i];
    mean += dn;
    along += dn * (x[i] - m.mean) * m.rstd;
  }
  mean /= n;
  along /= n;
#pragma omp simd
  for (int64_t i = 0; i < n; i++) dx[i] = (dy[i] * scale[i] - mean - (x[i] - m.mean) * m.rstd * along) * m.rstd;
}

const Implementation kImplementations[] = {
    {"FirstframeLayerNorm",
     [](Call& call, const Attributes& attributes) {
       const View x = call.Input(0), scale = call.Input(1), shift = call.Input(2);
       if (!call.ok()) return;
       const View y = call.Output(0, x.shape);
       if (!call.ok()) return;
       const Segments segments(attributes.lengths, scale);
       const int64_t n = x.width();
       ParallelFor(x.rows(), 1 + (1 << 14) / n, [&](int64_t begin, int64_t end) {
         for (int64_t row = begin; row < end; row++) {
           const int64_t of = segments.Row(row) * n;
           Forward(x.data + row * n, scale.data + of, shift.data + of, y.data + row * n, n, attributes.eps);
         }
       });
     }},
    {"FirstframeLayerNormGrad",
     [](Call& call, const Attributes& attributes) {
       const View x = call.Input(0), scale = call.Input(1), dy = call.Input(2);
       if (!call.ok()) return;
       const View dx = call.Output(0, x.shape);
       if (!call.ok()) return;
       const Segments segments(attributes.lengths, scale);
       const int64_t n = x.width();
       ParallelFor(x.rows(), 1 + (1 << 14) / n, [&](int64_t begin, int64_t end) {
         for (int64_t row = begin; row < end; row++) {
           const int64_t at = row * n;
           Backward(x.data + at, scale.data + segments.Row(row) * n, dy.data + at, dx.data + at, n, attributes.eps);
         }
       });
     }},
};

}  // namespace
}  // namespace firstframe
